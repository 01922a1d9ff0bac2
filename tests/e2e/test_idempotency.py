"""`Idempotency-Key` over sockets: what is sent again is answered again, through the gate, and nothing
is made twice.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import httpx
import pytest
from aiohttp import web
from tests.e2e.conftest import ScriptedUpstream, World, text

from regate_gateway.app import IDEMPOTENT, ROUTES
from regate_orchestrator.principal import Principal

KEY = {"Idempotency-Key": "3c0f-~ key"}
ASK = {"model": "small", "input": "Hello"}


def error_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def is_replay(answer: httpx.Response) -> bool:
    return answer.headers.get("idempotent-replayed") == "true"


def events_of(answer: httpx.Response) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


class Held:
    """A turn of the upstream that waits until it is let go."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, upstream: ScriptedUpstream, request: web.Request) -> web.StreamResponse:
        self.arrived.set()
        await self.go.wait()
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for chunk in text("Late."):
            await response.write(
                b"data: "
                + json.dumps({"id": "c", "object": "chat.completion.chunk", **chunk}).encode()
                + b"\n\n"
            )
        await response.write(b"data: [DONE]\n\n")
        return response


async def broken(upstream: ScriptedUpstream, request: web.Request) -> web.StreamResponse:
    return web.Response(status=500)


def test_every_create_that_takes_a_key_is_retrieved_by_a_route_of_the_table() -> None:
    served = {(method, path) for method, path, _ in ROUTES}
    assert {("POST", path) for path in IDEMPOTENT} | {("GET", path) for path in IDEMPOTENT.values()} <= served


async def test_response_is_made_once_and_answered_twice(world: World) -> None:
    world.upstream.turns = [text("Once."), text("Twice.")]
    async with world.http() as http:
        answers = [await http.post("/responses", json=ASK, headers=KEY) for _ in range(2)]
    first, again = (answer.json() for answer in answers)
    assert ([is_replay(answer) for answer in answers], len(world.upstream.requests), again["output"]) == (
        [False, True],
        1,
        first["output"],
    )
    assert again["id"] == first["id"]


@pytest.mark.parametrize("kind", ["vector store", "file", "attachment"])
async def test_object_is_made_once_and_answered_twice(world: World, kind: str) -> None:
    async with world.http() as http:
        file = (
            await http.post("/files", files={"file": ("a.txt", b"Text")}, data={"purpose": "assistants"})
        ).json()["id"]
        store = (await http.post("/vector_stores", json={})).json()["id"]

        async def create() -> httpx.Response:
            match kind:
                case "vector store":
                    return await http.post("/vector_stores", json={"name": "One"}, headers=KEY)
                case "file":
                    upload = {"file": ("b.txt", b"More text")}
                    return await http.post(
                        "/files", files=upload, data={"purpose": "assistants"}, headers=KEY
                    )
                case _:
                    return await http.post(
                        f"/vector_stores/{store}/files", json={"file_id": file}, headers=KEY
                    )

        answers = [await create() for _ in range(3)]
        listed = [
            len((await http.get(path)).json()["data"])
            for path in ("/files", "/vector_stores", f"/vector_stores/{store}/files")
        ]
    expected = {"vector store": [1, 2, 0], "file": [2, 1, 0], "attachment": [1, 1, 1]}[kind]
    assert ([answer.status_code for answer in answers], [is_replay(answer) for answer in answers]) == (
        [200] * 3,
        [False, True, True],
    )
    assert (len({answer.json()["id"] for answer in answers}), listed) == (1, expected)


async def test_official_client_reads_a_replay_like_any_answer(world: World) -> None:
    world.upstream.turns = [text("Once.")]
    client = world.client()
    answers = [
        await client.responses.create(model="small", input="Hello", extra_headers=KEY) for _ in range(2)
    ]
    assert [answer.output_text for answer in answers] == ["Once.", "Once."]


async def test_without_a_key_each_request_is_its_own(world: World) -> None:
    async with world.http() as http:
        answers = [await http.post("/vector_stores", json={}) for _ in range(2)]
    assert len({answer.json()["id"] for answer in answers}) == 2


async def test_key_of_somebody_else_is_another_key(world: World) -> None:
    ids = []
    for subject, tenant in (("alice", "acme"), ("bob", "acme"), ("alice", "globex")):
        async with world.http(subject, tenant) as http:
            ids.append((await http.post("/vector_stores", json={}, headers=KEY)).json()["id"])
    assert len(set(ids)) == 3


@pytest.mark.parametrize("other", ["body", "path", "query"])
async def test_key_of_another_request_is_refused(world: World, other: str) -> None:
    async with world.http() as http:
        store = (await http.post("/vector_stores", json={"name": "One"}, headers=KEY)).json()["id"]
        match other:
            case "body":
                answer = await http.post("/vector_stores", json={"name": "Two"}, headers=KEY)
            case "path":
                answer = await http.post(f"/vector_stores/{store}/files", json={"name": "One"}, headers=KEY)
            case _:
                answer = await http.post("/vector_stores?x=1", json={"name": "One"}, headers=KEY)
    assert error_of(answer) == (422, "idempotency_key_reused")


async def test_same_meaning_in_another_order_is_the_same_request(world: World) -> None:
    spellings = (
        '{"name": "One", "metadata": {"a": "1", "b": "2"}}',
        '{ "metadata":{"b":"2","a":"\\u0031"},\n"name":"One" }',
    )
    async with world.http() as http:
        headers = KEY | {"Content-Type": "application/json"}
        answers = [
            await http.post("/vector_stores", content=spelling, headers=headers) for spelling in spellings
        ]
    assert ([answer.status_code for answer in answers], [is_replay(answer) for answer in answers]) == (
        [200, 200],
        [False, True],
    )


def upload(
    *,
    content: bytes = b"12345",
    name: str = "a.txt",
    purpose: str = "assistants",
    boundary: str = "line",
    last: bool = False,
) -> dict[str, Any]:
    """A form as bytes; `last` says that the file comes behind the other field."""
    head = f"--{boundary}\r\nContent-Disposition: form-data; name="
    file = f'{head}"file"; filename="{name}"\r\nContent-Type: text/plain\r\n\r\n'.encode() + content + b"\r\n"
    other = f'{head}"purpose"\r\n\r\n{purpose}\r\n'.encode()
    parts = [other, file] if last else [file, other]
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return {"content": b"".join(parts) + f"--{boundary}--\r\n".encode(), "headers": KEY | kind}


SAME: list[dict[str, Any]] = [{}, {"boundary": "another-line"}, {"last": True}]
OTHER: list[dict[str, Any]] = [
    {"content": b"12346"},
    {"content": b"1234"},
    {"content": b""},
    {"name": "b.txt"},
    {"purpose": "user_data"},
]


async def test_uploads_of_equal_length_are_told_apart_and_equal_ones_are_not(world: World) -> None:
    async with world.http() as http:
        first = await http.post("/files", **upload())
        same = [await http.post("/files", **upload(**changed)) for changed in SAME]
        other = [await http.post("/files", **upload(**changed)) for changed in OTHER]
        broken = await http.post("/files", content=b"--line\r\n", headers=upload()["headers"])
        listed = (await http.get("/files")).json()["data"]
        text = (await http.get(f"/files/{first.json()['id']}/content")).text

    assert [(answer.status_code, answer.json()["id"], is_replay(answer)) for answer in same] == [
        (200, first.json()["id"], True)
    ] * len(SAME)
    assert [error_of(answer) for answer in other] == [(422, "idempotency_key_reused")] * len(OTHER)
    assert (broken.status_code, len(listed), text) == (400, 1, "12345")


async def test_upload_that_failed_lets_another_have_its_key(world: World) -> None:
    async with world.http() as http:
        bad = await http.post("/files", **upload(purpose="nonsense"))
        good = await http.post("/files", **upload(content=b"other"))
        again = await http.post("/files", **upload(content=b"other"))
    assert (bad.status_code, good.status_code, again.json()["id"]) == (400, 200, good.json()["id"])


async def test_key_of_an_upload_is_no_key_of_another_create(world: World) -> None:
    async with world.http() as http:
        await http.post("/files", **upload())
        stored = await http.post("/vector_stores", json={}, headers=KEY)
        elsewhere = await http.post("/files?x=1", **upload())
    assert [error_of(answer) for answer in (stored, elsewhere)] == [(422, "idempotency_key_reused")] * 2


async def test_request_is_not_begun_again_while_it_is_running(world: World) -> None:
    held = Held()
    world.upstream.turns = [held]
    async with world.http() as http, asyncio.TaskGroup() as running:
        first = running.create_task(http.post("/responses", json=ASK, headers=KEY))
        await held.arrived.wait()
        meanwhile = await http.post("/responses", json=ASK, headers=KEY)
        held.go.set()
        answered = await first
        after = await http.post("/responses", json=ASK, headers=KEY)
    assert (error_of(meanwhile), meanwhile.headers["retry-after"]) == ((409, "idempotency_in_progress"), "1")
    assert (answered.status_code, is_replay(after), after.json()["id"]) == (200, True, answered.json()["id"])


async def test_many_at_once_make_one(world: World) -> None:
    async with world.http() as http:
        answers = await asyncio.gather(
            *(http.post("/vector_stores", json={}, headers=KEY) for _ in range(12))
        )
        listed = (await http.get("/vector_stores")).json()["data"]
    assert (len(listed), {answer.status_code for answer in answers} <= {200, 409}) == (1, True)


@pytest.mark.parametrize("failure", ["400", "404", "502"])
async def test_create_that_failed_is_carried_out_when_it_is_sent_again(world: World, failure: str) -> None:
    async with world.http() as http:
        match failure:
            case "400":
                bad = await http.post("/vector_stores", json={"nonsense": 1}, headers=KEY)
                good = await http.post("/vector_stores", json={"name": "One"}, headers=KEY)
            case "404":
                bad = await http.post("/responses", json={**ASK, "model": "none"}, headers=KEY)
                good = await http.post("/responses", json=ASK, headers=KEY)
            case _:
                world.upstream.turns = [broken, text("Better.")]
                bad = await http.post("/responses", json=ASK, headers=KEY)
                good = await http.post("/responses", json=ASK, headers=KEY)
    assert (bad.status_code, good.status_code, is_replay(good)) == (int(failure), 200, False)


async def test_create_whose_client_left_is_carried_out_when_it_is_sent_again(world: World) -> None:
    held = Held()
    world.upstream.turns = [held, text("Again.")]
    async with world.http() as http, asyncio.TaskGroup() as running:
        first = running.create_task(http.post("/responses", json=ASK, headers=KEY))
        await held.arrived.wait()
        first.cancel()
        async with asyncio.timeout(120):
            while (answer := await http.post("/responses", json=ASK, headers=KEY)).status_code == 409:
                pass
    assert (answer.status_code, is_replay(answer), answer.json()["output"][0]["content"][0]["text"]) == (
        200,
        False,
        "Again.",
    )


async def test_replay_passes_the_gate_and_is_recorded(world: World) -> None:
    world.upstream.turns = [text("Secret.")]
    async with world.http() as http:
        first = (await http.post("/responses", json=ASK, headers=KEY)).json()
        before = len(world.audit())
        custom = world.policies / "custom" / "history.rego"
        custom.parent.mkdir(exist_ok=True)
        custom.write_text('package regate.custom.history\n\ndeny if input.action == "history.reuse"\n')
        async with asyncio.timeout(120):
            while "Secret." in (again := await http.post("/responses", json=ASK, headers=KEY)).text:
                pass
    assert (is_replay(again), again.json()["id"], len(world.audit()) > before) == (True, first["id"], True)


async def test_what_was_deleted_is_not_made_again(world: World) -> None:
    async with world.http() as http:
        store = (await http.post("/vector_stores", json={}, headers=KEY)).json()["id"]
        await http.delete(f"/vector_stores/{store}")
        answer = await http.post("/vector_stores", json={}, headers=KEY)
    assert error_of(answer) == (409, "idempotency_gone")


async def test_response_that_is_not_stored_is_not_made_twice(world: World) -> None:
    async with world.http() as http:
        await http.post("/responses", json={**ASK, "store": False}, headers=KEY)
        answer = await http.post("/responses", json={**ASK, "store": False}, headers=KEY)
    assert (error_of(answer), len(world.upstream.requests)) == ((409, "idempotency_gone"), 1)


async def test_stream_is_made_once_and_told_twice(world: World) -> None:
    world.upstream.turns = [text("On", "ce.")]
    async with world.http() as http:
        answers = [await http.post("/responses", json={**ASK, "stream": True}, headers=KEY) for _ in range(2)]
    first, again = (events_of(answer)[-1] for answer in answers)
    assert ([is_replay(answer) for answer in answers], len(world.upstream.requests)) == ([False, True], 1)
    assert (again["type"], again["response"]["id"], again["response"]["output"]) == (
        "response.completed",
        first["response"]["id"],
        first["response"]["output"],
    )


async def test_stream_that_cannot_be_told_again_here_says_what_to_retrieve(world: World) -> None:
    async with world.http() as http:
        first = events_of(await http.post("/responses", json={**ASK, "stream": True}, headers=KEY))[-1][
            "response"
        ]["id"]
        state = world.gateway.services.state
        row = await state.responses.get(Principal("alice", "acme"), first)
        await state.responses.save(
            replace(row, status="in_progress")
        )  # as one that another gateway is making
        again = await http.post("/responses", json={**ASK, "stream": True}, headers=KEY)
    assert (error_of(again), first in again.text) == ((409, "idempotency_not_streamed"), True)


@pytest.mark.parametrize("stream", [False, True])
async def test_background_response_is_begun_once(world: World, stream: bool) -> None:
    held = Held()
    world.upstream.turns = [held]
    ask = {**ASK, "background": True, "stream": stream}
    async with world.http() as http:
        async with http.stream("POST", "/responses", json=ask, headers=KEY) as first:
            await held.arrived.wait()
            if stream:  # whoever reads the first event may leave: the response goes on
                line = await anext(line async for line in first.aiter_lines() if line.startswith("data: "))
                begun = json.loads(line.removeprefix("data: "))["response"]["id"]
            else:
                begun = json.loads(await first.aread())["id"]
        held.go.set()
        again = await http.post("/responses", json=ask, headers=KEY)
    found = events_of(again)[-1]["response"] if stream else again.json()
    assert (is_replay(again), found["id"], len(world.upstream.requests)) == (True, begun, 1)


async def test_stream_that_failed_is_carried_out_when_it_is_sent_again(world: World) -> None:
    world.upstream.turns = [[{"choices": [{"index": 0, "delta": {"content": "Half"}}]}], text("Whole.")]
    async with world.http() as http:
        first = await http.post("/responses", json={**ASK, "stream": True}, headers=KEY)
        again = await http.post("/responses", json={**ASK, "stream": True}, headers=KEY)
    assert [events_of(answer)[-1]["type"] for answer in (first, again)] == [
        "response.failed",
        "response.completed",
    ]


async def test_key_that_is_none_is_refused(world: World) -> None:
    keys = ["", "x" * 256, "käse", "a\tb"]
    async with world.http() as http:
        answers = [
            await http.post("/vector_stores", json={}, headers={"Idempotency-Key": key.encode("latin-1")})
            for key in keys
        ]
    assert [error_of(answer) for answer in answers] == [(400, "invalid_idempotency_key")] * len(keys)


async def test_two_keys_are_refused(world: World) -> None:
    async with world.http() as http:
        answer = await http.post(
            "/vector_stores", json={}, headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
        )
    assert error_of(answer) == (400, "duplicate_header")
