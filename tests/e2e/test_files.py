"""The Files API over a socket, with the official client, on both kinds of storage."""

from __future__ import annotations

import asyncio
import io
import json
import time
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.e2e.conftest import ScriptedUpstream, World
from tests.e2e.test_retrieval import ACME, found, ingest

from regate_adapters.testing.s3 import S3Server, running_s3
from regate_gateway.composition.wiring import gateway_app, open_services
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running
from regate_orchestrator.errors import ConfigurationError
from regate_orchestrator.metrics import Metrics

LIMIT = 7 * 1024 * 1024


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with running_s3() as server:
        yield server


both = pytest.mark.parametrize("storage", ["disk", "s3"], indirect=True)


@pytest.fixture
def storage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings of `files`."""
    if getattr(request, "param", "disk") == "disk":
        return {"kind": "disk"}
    server: S3Server = request.getfixturevalue("s3")
    monkeypatch.setenv("S3_KEY", server.access_key_id)
    monkeypatch.setenv("S3_SECRET", server.secret_access_key)
    return {
        "kind": "s3",
        "bucket": server.bucket(),
        "endpoint_url": server.url,
        "prefix": "regate/",
        "access_key_id_env": "S3_KEY",
        "secret_access_key_env": "S3_SECRET",
    }


@dataclass
class Clock:
    """The time, and how far a test has moved it."""

    moved: float = 0

    def __call__(self) -> float:
        return time.time() + self.moved


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def world(
    configure: Callable[..., Settings],
    upstream: ScriptedUpstream,
    policies: Path,
    storage: dict[str, Any],
    clock: Clock,
) -> AsyncIterator[World]:
    (policies / "custom").mkdir()
    (policies / "custom" / "file.rego").write_text(
        'package regate.custom.file\n\ndeny if input.filename == "secret.txt"\n'
    )
    data = json.loads((policies / "data.json").read_text())
    data["regate"]["file_limits"]["roles"] = {
        "guest": {"max_bytes": 1_000, "max_files": 2, "max_total_bytes": 1_500}
    }
    (policies / "data.json").write_text(json.dumps(data))
    async with running(
        configure(files=storage, listen={"port": 0, "max_file_bytes": LIMIT}), upstream, policies, clock
    ) as world:
        yield world


@asynccontextmanager
async def running(
    settings: Settings, upstream: ScriptedUpstream, policies: Path, clock: Clock
) -> AsyncIterator[World]:
    app, gateway = gateway_app(settings, clock=clock)
    async with Running(app, settings.listen) as server:
        world = World(server.url, settings, gateway, upstream, policies)
        yield world
        for client in world.clients:
            await client.close()


def stored(world: World, request: pytest.FixtureRequest) -> list[str]:
    """The names of what is in the storage, parts of uploads included."""
    files = world.settings.files
    if files.bucket is None:
        return sorted(path.name for path in files.path.iterdir())
    server: S3Server = request.getfixturevalue("s3")
    parts = ["a part"] * server.parts(files.bucket)
    return [key.removeprefix("regate/") for key in sorted(server.objects(files.bucket))] + parts


@both
async def test_a_file_comes_back_as_it_was_sent_however_it_was_given(world: World, tmp_path: Path) -> None:
    client = world.client()
    data = bytes(range(256)) * 25_000  # beyond one part of an upload to S3
    (tmp_path / "report.bin").write_bytes(data)
    given: list[tuple[Any, str]] = [
        (tmp_path / "report.bin", "report.bin"),
        (data, "upload"),
        (io.BytesIO(data), "upload"),
        (("named.bin", io.BytesIO(data)), "named.bin"),
        (("déjà vu.bin", data, "application/x-anything"), "déjà vu.bin"),
    ]
    seen = []
    for file, _ in given:
        made = await client.files.create(file=file, purpose="user_data")
        content = await client.files.content(made.id)
        seen.append((made.filename, made.bytes, content.content == data))

    assert seen == [(name, len(data), True) for _, name in given]


async def test_a_file_object_has_the_documented_shape_and_is_the_same_wherever_it_is_shown(
    world: World,
) -> None:
    client = world.client()
    made = await client.files.create(file=("a.md", b"text"), purpose="assistants")
    waited = await client.files.wait_for_processing(made.id, poll_interval=0.01, max_wait_seconds=60)
    (listed,) = (await client.files.list()).data

    assert made == waited == listed == await client.files.retrieve(made.id)
    assert made.to_dict() == {
        "id": made.id,
        "object": "file",
        "bytes": 4,
        "created_at": made.created_at,
        "expires_at": None,
        "filename": "a.md",
        "purpose": "assistants",
        "status": "processed",
        "status_details": None,
    }


async def test_files_are_listed_by_purpose_and_page_by_page(world: World) -> None:
    client = world.client()
    purposes = ["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
    made = {
        purpose: (await client.files.create(file=("a.txt", b"x"), purpose=purpose)).id for purpose in purposes
    }  # type: ignore[arg-type]
    by_purpose = {
        purpose: [file.id async for file in client.files.list(purpose=purpose)] for purpose in purposes
    }
    first = await client.files.list(limit=4, order="asc")
    second = await first.get_next_page()
    every = [file.id async for file in client.files.list(limit=1, order="desc")]

    assert by_purpose == {purpose: [file] for purpose, file in made.items()}
    assert (len(first.data), first.has_more, len(second.data), second.has_more) == (4, True, 2, False)
    assert sorted(file.id for file in [*first.data, *second.data]) == sorted(every) == sorted(made.values())


async def test_files_for_a_purpose_that_there_is_not_are_refused(world: World) -> None:
    async with world.http() as http:
        refused, all_of_them = await http.get("/files?purpose=resale"), await http.get("/files?purpose=")
    error = refused.json()["error"]
    assert (refused.status_code, error["param"], error["code"]) == (400, "purpose", "invalid_value")
    assert "'assistants'" in error["message"]
    assert all_of_them.status_code == 200


@both
async def test_a_deleted_file_is_absent_and_nothing_of_it_is_stored(
    world: World, request: pytest.FixtureRequest
) -> None:
    client = world.client()
    kept = await client.files.create(file=("a.txt", b"kept"), purpose="user_data")
    made = await client.files.create(file=("b.txt", b"deleted"), purpose="user_data")
    deleted = await client.files.delete(made.id)

    for reading in (
        client.files.retrieve(made.id),
        client.files.content(made.id),
        client.files.delete(made.id),
    ):
        with pytest.raises(openai.NotFoundError):
            await reading
    assert deleted.to_dict() == {"id": made.id, "object": "file", "deleted": True}
    assert stored(world, request) == [kept.id]


async def test_a_file_larger_than_the_limit_is_413_and_nothing_of_it_is_stored(
    world: World, request: pytest.FixtureRequest
) -> None:
    client = world.client()
    whole = await client.files.create(file=("whole.bin", b"x" * LIMIT), purpose="user_data")
    with pytest.raises(openai.APIStatusError) as refusal:
        await client.files.create(file=("large.bin", b"x" * (LIMIT + 1)), purpose="user_data")

    assert (refusal.value.status_code, refusal.value.code) == (413, "request_too_large")
    assert stored(world, request) == [whole.id]


async def test_what_the_policy_lets_a_caller_have_is_all_that_is_stored(
    world: World, request: pytest.FixtureRequest
) -> None:
    guest, alice = world.client("gus", roles=["guest"]), world.client()
    refusals = []

    async def send(size: int) -> str | None:
        try:
            return (await guest.files.create(file=("a.bin", b"x" * size), purpose="user_data")).id
        except openai.APIStatusError as error:
            refusals.append((error.status_code, error.code, error.param))
            return None

    kept = [await send(1_001), await send(900), await send(700), await send(600), await send(0)]
    hers = await alice.files.create(file=("b.bin", b"x" * 2_000), purpose="user_data")

    assert [size is not None for size in kept] == [False, True, False, True, False]
    room = (403, "storage_limit_exceeded", "file")
    assert refusals == [(413, "request_too_large", None), room, room]
    assert stored(world, request) == sorted([*filter(None, kept), hers.id])


async def test_an_upload_that_is_refused_stores_nothing(world: World, request: pytest.FixtureRequest) -> None:
    client = world.client()
    with pytest.raises(openai.PermissionDeniedError, match="denied_by_custom_rule"):
        await client.files.create(file=("secret.txt", b"x" * 6_000_000), purpose="user_data")
    with pytest.raises(openai.BadRequestError, match="purpose"):
        await client.files.create(file=("a.txt", b"x" * 6_000_000), purpose="leisure")  # type: ignore[arg-type]

    assert stored(world, request) == []


async def test_the_files_of_others_are_as_absent_as_those_that_never_were(world: World) -> None:
    alice, gita = world.client("alice", "acme"), world.client("gita", "globex")
    file = (await alice.files.create(file=("a.txt", b"x"), purpose="user_data")).id
    answers = []
    async with world.http("gita", "globex") as http:
        for identifier in (file, "file-" + "0" * 48):
            for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
                answer = await http.request(method, f"/files/{identifier}{path}")
                answers.append((answer.status_code, answer.text.replace(identifier, "<id>")))

    assert answers[:3] == answers[3:]
    assert [status for status, _ in answers] == [404] * 6
    assert [one.id async for one in gita.files.list()] == []


@both
async def test_a_document_in_the_storage_is_ingested_and_found(world: World) -> None:
    client = world.client()
    store = (await client.vector_stores.create(name="acme")).id
    await ingest(client, store, "leave.md", ACME)

    assert ["blue-heron" in hit for hit in await found(client, store)] == [True]


async def test_a_file_says_when_it_expires_and_is_then_as_absent_as_one_that_was_deleted(
    world: World, clock: Clock
) -> None:
    client = world.client()
    store = (await client.vector_stores.create(name="acme")).id
    file = await ingest(client, store, "leave.md", ACME)
    kept = await client.files.create(file=("kept.md", ACME.encode()), purpose="assistants")
    brief = await client.files.create(
        file=("brief.md", b"All blue-heron leave ends."),
        purpose="assistants",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    await client.vector_stores.files.create_and_poll(brief.id, vector_store_id=store, poll_interval_ms=20)
    before = sorted(await found(client, store))
    batch = await client.files.create(file=("b.jsonl", b"{}"), purpose="batch")
    clock.moved = 3_601
    async with world.http() as http:
        answers = []
        for identifier in (brief.id, "file-" + "0" * 48):
            for method, path in (
                ("GET", f"/files/{identifier}"),
                ("GET", f"/files/{identifier}/content"),
                ("DELETE", f"/files/{identifier}"),
                ("GET", f"/vector_stores/{store}/files/{identifier}"),
                ("GET", f"/vector_stores/{store}/files/{identifier}/content"),
                ("DELETE", f"/vector_stores/{store}/files/{identifier}"),
            ):
                answer = await http.request(method, path)
                answers.append((answer.status_code, answer.text.replace(identifier, "<id>")))
        attached = await http.post(f"/vector_stores/{store}/files", json={"file_id": brief.id})

    assert (kept.expires_at, brief.expires_at, batch.expires_at) == (
        None,
        brief.created_at + 3_600,
        batch.created_at + 30 * 86_400,
    )
    assert len(before) == 2
    assert answers[:6] == answers[6:]
    assert [status for status, _ in answers] == [404] * 12
    assert attached.status_code == 404
    assert sorted(one.id for one in (await client.files.list()).data) == sorted([file, kept.id, batch.id])
    assert [one.id for one in (await client.vector_stores.files.list(store)).data] == [file]
    assert (await client.vector_stores.retrieve(store)).file_counts.total == 1
    assert len(await found(client, store)) == 1


async def test_an_expired_file_is_swept_when_the_gateway_starts(
    configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path, clock: Clock
) -> None:
    settings = configure()
    async with running(settings, upstream, policies, clock) as world:
        brief = await world.client().files.create(
            file=("a.md", b"x"), purpose="assistants", expires_after={"anchor": "created_at", "seconds": 3600}
        )
        kept = await world.client().files.create(file=("b.md", b"x"), purpose="assistants")
    before = sorted(path.name for path in settings.files.path.iterdir())
    clock.moved = 3_601
    async with running(settings, upstream, policies, clock) as world, asyncio.timeout(120):
        while len(after := [path.name for path in settings.files.path.iterdir()]) > 1:
            await asyncio.sleep(0.01)
        swept = world.audit(kind="sweep")

    assert (before, after) == (sorted([brief.id, kept.id]), [kept.id])
    assert [(record["phase"], record["about"], record["tenant"]) for record in swept] == [
        ("file.expire", brief.id, "acme")
    ]


@pytest.mark.parametrize(
    ("seconds", "anchor"), [(3599, "created_at"), (2_592_001, "created_at"), (3600, "last_active_at")]
)
async def test_an_expiry_that_is_not_offered_is_refused_by_name(
    world: World, request: pytest.FixtureRequest, seconds: int, anchor: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        await world.client().files.create(
            file=("a.md", b"x"),
            purpose="assistants",
            expires_after={"anchor": anchor, "seconds": seconds},  # type: ignore[typeddict-item]
        )

    assert refusal.value.param == (
        "expires_after.anchor" if anchor != "created_at" else "expires_after.seconds"
    )
    assert stored(world, request) == []


async def test_content_whose_storage_has_lost_it_is_an_error_and_no_empty_file(world: World) -> None:
    client = world.client()
    made = await client.files.create(file=("a.md", b"x"), purpose="assistants")
    (world.settings.files.path / made.id).unlink()

    with pytest.raises(openai.NotFoundError):
        await client.files.content(made.id)


async def test_files_that_cannot_be_read_fail_with_a_reason_and_a_good_one_among_them_is_found(
    world: World,
) -> None:
    client = world.client()
    store = (await client.vector_stores.create(name="acme")).id
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b" " * 50_000_000)
    sent = {
        "bomb.docx": (out.getvalue(), "invalid_file"),
        "picture.pdf": (b"\x89PNG\r\n\x1a\n", "invalid_file"),
        "binary.txt": (bytes(range(256)), "invalid_file"),
        "empty.md": (b"", "invalid_file"),
        "program.exe": (b"MZ", "unsupported_file"),
        "no-ending": (b"text", "unsupported_file"),
        "letter.doc": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "invalid_file"),
        "leave.py": (ACME.encode(), None),
    }
    outcomes = {}
    for name, (data, _) in sent.items():
        file = await client.files.create(file=(name, data), purpose="assistants")
        attached = await client.vector_stores.files.create_and_poll(
            file.id, vector_store_id=store, poll_interval_ms=20
        )
        error = attached.last_error
        outcomes[name] = (attached.status, error and error.code, bool(error and error.message))
    counts = (await client.vector_stores.retrieve(store)).file_counts

    assert outcomes == {
        name: ("failed", code, True) if code else ("completed", None, False)
        for name, (_, code) in sent.items()
    }
    assert (counts.failed, counts.completed, counts.in_progress) == (7, 1, 0)
    assert ["blue-heron" in hit for hit in await found(client, store)] == [True]


async def test_the_gateway_says_that_its_storage_answers(world: World) -> None:
    async with world.http() as http:
        assert (await http.get(f"{world.url}/readyz")).json()["checks"]["files"] == "ok"


async def test_a_gateway_does_not_start_on_a_bucket_that_cannot_be_used(
    configure: Callable[..., Settings], s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_KEY", s3.access_key_id)
    monkeypatch.setenv("S3_SECRET", "wrong")
    names = {"access_key_id_env": "S3_KEY", "secret_access_key_env": "S3_SECRET"}
    settings = configure(files={"kind": "s3", "bucket": s3.bucket(), "endpoint_url": s3.url, **names})

    with pytest.raises(
        ConfigurationError, match=r"the bucket test-[0-9a-f]+ cannot be used .*SignatureDoesNotMatch"
    ):
        async with AsyncExitStack() as stack:
            await open_services(stack, settings, Metrics())
