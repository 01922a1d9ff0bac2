"""Files in parts, with the official client: through the same policy as other files, whole or not at
all, and nothing left of what is given up.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.e2e.conftest import ScriptedUpstream, World
from tests.e2e.test_files import Clock, running

from regate_gateway.config.settings import Settings
from regate_orchestrator.documents.upload_parts import KEPT_SECONDS, LIFETIME_SECONDS

TEXT = b"".join(b"%06d parental leave\n" % number for number in range(4_000))
Configure = Callable[..., Settings]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def world(
    configure: Configure, upstream: ScriptedUpstream, policies: Path, clock: Clock
) -> AsyncIterator[World]:
    """A gateway whose policy denies one name, and whose guests may have 1,000 bytes a file, two files,
    and 1,500 bytes in all.
    """
    (policies / "custom").mkdir()
    (policies / "custom" / "file.rego").write_text(
        'package regate.custom.file\n\ndeny if input.filename == "secret.txt"\n'
    )
    data = json.loads((policies / "data.json").read_text())
    data["regate"]["file_limits"]["roles"] = {
        "guest": {"max_bytes": 1_000, "max_files": 2, "max_total_bytes": 1_500}
    }
    (policies / "data.json").write_text(json.dumps(data))
    async with running(configure(), upstream, policies, clock) as found:
        yield found


def stored(world: World) -> list[str]:
    """The names of all bytes that are stored."""
    return sorted(path.name for path in (world.settings.files.path).glob("*"))


def described(**changes: Any) -> dict[str, Any]:
    return {
        "filename": "leave.txt",
        "purpose": "assistants",
        "bytes": 3,
        "mime_type": "text/plain",
        **changes,
    }


async def begun(http: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    answer = await http.post("/uploads", json=described(**changes))
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def part(http: httpx.AsyncClient, upload: str, data: bytes) -> httpx.Response:
    return await http.post(f"/uploads/{upload}/parts", files={"data": ("part", data)})


async def test_openais_client_uploads_a_file_in_parts(world: World, tmp_path: Path) -> None:
    path = tmp_path / "leave.txt"
    path.write_bytes(TEXT)
    alice = world.client()
    upload = await alice.uploads.upload_file_chunked(
        file=path,
        mime_type="text/plain",
        purpose="assistants",
        part_size=30_000,
        md5=hashlib.md5(TEXT).hexdigest(),
    )
    assert upload.file is not None
    content = await alice.files.content(upload.file.id)
    listed = [file.id async for file in alice.files.list()]

    assert (upload.status, upload.file.filename, upload.file.bytes, content.content == TEXT) == (
        "completed",
        "leave.txt",
        len(TEXT),
        True,
    )
    assert (listed, stored(world)) == ([upload.file.id], [upload.file.id])


async def test_parts_are_joined_in_the_order_in_which_they_are_named_and_the_others_are_dropped(
    world: World,
) -> None:
    async with world.http() as http:
        upload = await begun(http, bytes=6, expires_after={"anchor": "created_at", "seconds": 3_600})
        answers = await asyncio.gather(*(part(http, upload["id"], data) for data in (b"def", b"xyz", b"abc")))
        ids = [answer.json()["id"] for answer in answers]
        done = (
            await http.post(f"/uploads/{upload['id']}/complete", json={"part_ids": [ids[2], ids[0]]})
        ).json()
        content = await http.get(f"/files/{done['file']['id']}/content")

    assert (content.content, done["file"]["expires_at"] - done["file"]["created_at"]) == (b"abcdef", 3_600)
    assert stored(world) == [done["file"]["id"]]


async def test_an_upload_is_its_makers_alone(world: World) -> None:
    async with world.http() as alice, world.http("bob") as bob, world.http("eve", "globex") as eve:
        upload = (await begun(alice, bytes=3))["id"]
        made = (await part(alice, upload, b"abc")).json()["id"]
        statuses = [
            answer.status_code
            for http in (bob, eve)
            for answer in (
                await part(http, upload, b"abc"),
                await http.post(f"/uploads/{upload}/complete", json={"part_ids": [made]}),
                await http.post(f"/uploads/{upload}/cancel"),
            )
        ]
        done = await alice.post(f"/uploads/{upload}/complete", json={"part_ids": [made]})

    assert (statuses, done.status_code) == ([404] * 6, 200)


async def test_cancelled_upload_leaves_nothing_and_takes_nothing_more(world: World) -> None:
    async with world.http() as http:
        upload = (await begun(http, bytes=3))["id"]
        made = (await part(http, upload, b"abc")).json()["id"]
        cancelled = await http.post(f"/uploads/{upload}/cancel")
        after = [
            await part(http, upload, b"abc"),
            await http.post(f"/uploads/{upload}/complete", json={"part_ids": [made]}),
            await http.post(f"/uploads/{upload}/cancel"),
        ]

    assert (cancelled.json()["status"], cancelled.json()["file"], stored(world)) == ("cancelled", None, [])
    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in after] == [
        (400, "upload_not_pending")
    ] * 3


WRONG = {
    "too few bytes": ({"part_ids": [0]}, "part_ids", "invalid_upload_size"),
    "a part twice": ({"part_ids": [0, 0]}, "part_ids[1]", "invalid_part"),
    "a part of another upload": ({"part_ids": [0, "part_0"]}, "part_ids[1]", "invalid_part"),
    "another checksum": ({"part_ids": [0, 1], "md5": "0" * 32}, "md5", "invalid_checksum"),
    "no checksum": ({"part_ids": [0, 1], "md5": "x"}, "md5", "invalid_value"),
    "no parts": ({}, "part_ids", "missing_required_parameter"),
}


@pytest.mark.parametrize(("asked", "param", "code"), WRONG.values(), ids=WRONG.keys())
async def test_completion_that_is_not_exact_is_refused_and_can_be_mended(
    world: World, asked: dict[str, Any], param: str, code: str
) -> None:
    async with world.http() as http:
        upload = (await begun(http, bytes=6))["id"]
        ids = [(await part(http, upload, data)).json()["id"] for data in (b"abc", b"def")]
        named = asked | (
            {"part_ids": [ids[one] if isinstance(one, int) else one for one in asked["part_ids"]]}
            if "part_ids" in asked
            else {}
        )
        refused = await http.post(f"/uploads/{upload}/complete", json=named)
        mended = await http.post(f"/uploads/{upload}/complete", json={"part_ids": ids})

    error = refused.json()["error"]
    assert (refused.status_code, error["param"], error["code"], mended.status_code) == (400, param, code, 200)


async def test_of_two_completions_at_once_one_makes_the_file(world: World) -> None:
    async with world.http() as http:
        upload = (await begun(http, bytes=3))["id"]
        made = (await part(http, upload, b"abc")).json()["id"]
        answers = await asyncio.gather(
            *(http.post(f"/uploads/{upload}/complete", json={"part_ids": [made]}) for _ in range(4))
        )
        files = (await http.get("/files")).json()["data"]

    assert sorted(answer.status_code for answer in answers) == [200, 400, 400, 400]
    assert [file["id"] for file in files] == stored(world)


@pytest.mark.parametrize(
    ("changes", "status", "param"),
    [
        ({"purpose": "other"}, 400, "purpose"),
        ({"bytes": 0}, 400, "bytes"),
        ({"bytes": 10**13}, 413, "bytes"),
        ({"filename": ".."}, 400, "filename"),
        ({"mime_type": None}, 400, "mime_type"),
        ({"expires_after": {"anchor": "created_at", "seconds": 1}}, 400, "expires_after.seconds"),
        ({"mimetype": "text/plain"}, 400, "mimetype"),
    ],
)
async def test_an_upload_that_could_not_be_completed_is_not_begun(
    world: World, changes: dict[str, Any], status: int, param: str
) -> None:
    async with world.http() as http:
        answer = await http.post("/uploads", json=described(**changes))

    assert (answer.status_code, answer.json()["error"]["param"], bool(answer.json()["error"]["code"])) == (
        status,
        param,
        True,
    )


async def test_what_a_caller_may_have_is_counted_with_parts_and_holds_for_the_whole(world: World) -> None:
    async with world.http("gus", roles=["guest"]) as gus:
        too_large = await gus.post("/uploads", json=described(bytes=1_001))
        upload = (await begun(gus, bytes=1_000))["id"]
        made = [(await part(gus, upload, b"x" * 500)).json()["id"] for _ in range(2)]
        no_room = await gus.post("/uploads", json=described(bytes=600))
        no_part = await part(gus, upload, b"x" * 501)
        second = await begun(gus, bytes=500)
        no_third = await gus.post("/uploads", json=described(bytes=1))
        done = await gus.post(f"/uploads/{upload}/complete", json={"part_ids": made})
        made = [(await part(gus, second["id"], b"x" * 500)).json()["id"]]
        full = await gus.post(f"/uploads/{second['id']}/complete", json={"part_ids": made})

    assert too_large.status_code == 413
    assert [(one.status_code, one.json()["error"]["code"]) for one in (no_room, no_part, no_third)] == [
        (403, "storage_limit_exceeded")
    ] * 3
    assert (done.status_code, full.status_code) == (200, 200)
    assert stored(world) == sorted(one.json()["file"]["id"] for one in (done, full))


async def test_policy_decides_at_the_beginning_and_again_when_it_is_a_file(world: World) -> None:
    rule = world.policies / "custom" / "file.rego"
    async with world.http() as http:
        denied = await http.post("/uploads", json=described(filename="secret.txt"))
        upload = (await begun(http, bytes=3))["id"]
        made = (await part(http, upload, b"abc")).json()["id"]
        rule.write_text('package regate.custom.file\n\ndeny if input.filename == "leave.txt"\n')
        async with asyncio.timeout(60):
            while (refused := await http.post("/uploads", json=described())).status_code == 200:
                await asyncio.sleep(0.05)
        completed = await http.post(f"/uploads/{upload}/complete", json={"part_ids": [made]})
        files = (await http.get("/files")).json()["data"]

    assert [one.status_code for one in (denied, refused, completed)] == [403, 403, 403]
    assert ("denied_by_custom_rule" in completed.text, files) == (True, [])


async def test_abandoned_upload_is_over_after_an_hour_and_an_hour_later_swept(
    configure: Configure, upstream: ScriptedUpstream, policies: Path, clock: Clock
) -> None:
    settings = configure()
    async with running(settings, upstream, policies, clock) as world, world.http() as http:
        upload = (await begun(http, bytes=3))["id"]
        made = (await part(http, upload, b"abc")).json()["id"]
        clock.moved = LIFETIME_SECONDS + 1
        late = [
            await part(http, upload, b"abc"),
            await http.post(f"/uploads/{upload}/complete", json={"part_ids": [made]}),
        ]
        before = stored(world)
    clock.moved = 2 * LIFETIME_SECONDS + 1
    async with running(settings, upstream, policies, clock) as world, asyncio.timeout(120):
        while stored(world):
            await asyncio.sleep(0.01)
    clock.moved = LIFETIME_SECONDS + KEPT_SECONDS + 2
    async with (
        running(settings, upstream, policies, clock) as world,
        world.http() as http,
        asyncio.timeout(120),
    ):
        while (gone := await http.post(f"/uploads/{upload}/cancel")).status_code != 404:
            await asyncio.sleep(0.05)

    assert [(one.status_code, one.json()["error"]["code"]) for one in late] == [(400, "upload_expired")] * 2
    assert (len(before), gone.json()["error"]["code"] is not None) == (1, True)
