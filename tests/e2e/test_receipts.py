"""Each answer's receipt names a record of its own request, and is found in the log later."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from tests.deployments import only_on
from tests.e2e.conftest import World, text
from tests.e2e.test_audit_story import audit

ANSWERS = {"model": "small", "input": "Hi"}

pytestmark = only_on("embedded")


async def record_of(world: World, answer: httpx.Response) -> dict[str, object]:
    found = await audit(world, "receipt", answer.headers["regate-receipt"], "--json", *own_key(world))
    record: dict[str, object] = json.loads(found.stdout)["record"]
    return record


def own_key(world: World) -> list[str]:
    return ["--data-dir", str(world.settings.data_dir)]


async def test_receipt_of_an_answer_names_its_request_and_response(world: World) -> None:
    world.upstream.turns = [text("Hello.")]
    async with world.http() as client:
        answer = await client.post("/responses", json=ANSWERS)
    record = await record_of(world, answer)

    assert (record["request_id"], record["response_id"]) == (
        answer.headers["x-request-id"],
        answer.json()["id"],
    )


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/responses", {**ANSWERS, "stream": True}, 200),
        (
            "POST",
            "/chat/completions",
            {"model": "small", "messages": [{"role": "user", "content": "Hi"}]},
            200,
        ),
        ("GET", "/models", None, 200),
        ("GET", f"/files/file-{'0' * 48}", None, 404),
    ],
)
async def test_whatever_was_decided_has_a_receipt_of_its_request(
    world: World, method: str, path: str, body: object, status: int
) -> None:
    world.upstream.turns = [text("Hello.")]
    async with world.http() as client:
        answer = await client.request(method, path, json=body)
    record = await record_of(world, answer)

    assert (answer.status_code, record["request_id"]) == (status, answer.headers["x-request-id"])


@pytest.mark.one_process
async def test_requests_at_the_same_time_have_each_its_own(world: World) -> None:
    world.upstream.turns = [text("Hello.")] * 20
    async with world.http() as client:
        answers = await asyncio.gather(*(client.post("/responses", json=ANSWERS) for _ in range(20)))
    records = [await record_of(world, answer) for answer in answers]

    assert [record["response_id"] for record in records] == [answer.json()["id"] for answer in answers]


async def test_what_was_not_decided_has_no_receipt(world: World) -> None:
    async with httpx.AsyncClient(base_url=world.url) as client:
        answers = [await client.get(path) for path in ("/healthz", "/nowhere", "/v1/models")]

    assert ["regate-receipt" in answer.headers for answer in answers] == [False, False, False]


async def test_receipt_does_not_tell_how_much_others_ask(world: World) -> None:
    world.upstream.turns = [text("Hello.")]
    async with world.http() as client:
        answer = await client.get("/models")
    time, _, digest = answer.headers["regate-receipt"].partition("/")

    assert (len(time), len(digest)) == (24, 64)
