"""A backend that fails with a status of success: clients get an error in our words, as a status where
that is still possible, else as an event.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from aiohttp import web
from tests.deployments import only_on
from tests.e2e.conftest import ScriptedUpstream, World, text
from tests.patience import PATIENT_SECONDS

from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running

pytestmark = only_on("embedded")

CHAT: dict[str, Any] = {"model": "small", "messages": [{"role": "user", "content": "Hi"}]}
SECRET = "secret words of http://10.0.0.5:8000"
Turn = Callable[[ScriptedUpstream, web.Request], Awaitable[web.StreamResponse]]


def answering(body: bytes, content_type: str = "application/json") -> Turn:
    async def answer(upstream: ScriptedUpstream, request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, headers={"Content-Type": content_type})

    return answer


def streaming(*payloads: object) -> Turn:
    return answering(
        b"".join(b"data: " + json.dumps(payload).encode() + b"\n\n" for payload in payloads),
        "text/event-stream",
    )


TOLD: dict[str, tuple[Turn, int]] = {
    "an envelope": (answering(json.dumps({"error": {"message": SECRET}}).encode()), 502),
    "a bad request": (answering(json.dumps({"error": {"message": SECRET, "code": 400}}).encode()), 400),
    "a limit": (
        answering(json.dumps({"error": {"message": SECRET, "code": "rate_limit_exceeded"}}).encode()),
        429,
    ),
    "a page": (answering(f"<html>{SECRET}</html>".encode(), "text/html"), 502),
    "nothing": (answering(b""), 502),
    "text": (answering(SECRET.encode(), "text/plain"), 502),
    "the first event": (streaming({"error": {"message": SECRET, "code": 429}}), 429),
}


@pytest.mark.one_process
async def test_an_error_in_a_success_is_an_error_and_costs_no_tokens(world: World) -> None:
    found = {}
    async with world.http() as http:
        for case, (turn, _) in TOLD.items():
            world.upstream.turns = [turn, turn]
            answers = [
                await http.post("/chat/completions", json=CHAT | {"stream": stream})
                for stream in (True, False)
            ]
            found[case] = [
                (answer.status_code, "secret" in answer.text, set(answer.json())) for answer in answers
            ]
        after = await http.post("/embeddings", json={"model": "small", "input": "x"})

    expected = {case: [(status, False, {"error"})] * 2 for case, (_, status) in TOLD.items()}
    expected["the first event"][1] = (
        502,
        False,
        {"error"},
    )  # events are no answer to a request that asked for none
    assert found == expected
    limit, left = (int(after.headers[f"x-ratelimit-{name}-tokens"]) for name in ("limit", "remaining"))
    assert limit - left < 10


async def test_responses_are_held_to_the_same(world: World) -> None:
    found = {}
    async with world.http() as http:
        for case, (turn, _) in TOLD.items():
            world.upstream.turns = [turn]
            answer = await http.post("/responses", json={"model": "small", "input": "Hi"})
            found[case] = (answer.status_code, "secret" in answer.text)

    assert found == {case: (status, False) for case, (_, status) in TOLD.items()}


async def listen(client: openai.AsyncOpenAI, pieces: list[str | None]) -> None:
    async for chunk in await client.chat.completions.create(**CHAT, stream=True):
        pieces.append(chunk.choices[0].delta.content)


async def test_an_error_amid_a_stream_is_one_event_of_ours_in_place_of_the_rest(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.upstream.turns = [
        streaming(text("Half")[0], {"error": {"message": SECRET, "code": 500}}, text("never")[0])
        for _ in range(2)
    ]  # type: ignore[misc]
    pieces: list[str | None] = []
    with caplog.at_level(logging.WARNING):
        async with world.http() as http:
            whole = await http.post("/chat/completions", json=CHAT | {"stream": True})
        with pytest.raises(openai.APIError) as raised:
            await listen(world.client(), pieces)

    events = [json.loads(event.removeprefix("data: ")) for event in whole.text.strip().split("\n\n")]
    assert (whole.status_code, whole.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert [set(event) for event in events] == [{"choices"}, {"error"}]
    assert (events[1]["error"]["code"], "secret" in whole.text) == ("upstream_error", False)
    assert (pieces, "failed to answer" in raised.value.message) == (["Half"], True)
    logged = [record for record in caplog.records if "10.0.0.5" in record.getMessage()]
    assert [getattr(record, "request_id", "").startswith("req_") for record in logged] == [True, True]


def refusing(status: int) -> Turn:
    async def answer(upstream: ScriptedUpstream, request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": f"{SECRET}: bad '$ref'"}}, status=status)

    return answer


@pytest.mark.one_process
async def test_key_that_the_upstream_refuses_is_seen_where_operators_look(world: World) -> None:
    world.upstream.turns = [refusing(401)]
    async with httpx.AsyncClient(base_url=world.url, timeout=PATIENT_SECONDS) as anyone, world.http() as http:
        failed = await http.post("/responses", json={"model": "small", "input": "Hi"})
        denied, figures = (await anyone.get("/readyz")).json(), (await anyone.get("/metrics")).text
        served = await http.post("/responses", json={"model": "small", "input": "Hi"})
        over, figures_after = (await anyone.get("/readyz")).json(), (await anyone.get("/metrics")).text

    assert (failed.status_code, "credentials" in failed.json()["error"]["message"], served.status_code) == (
        502,
        True,
        200,
    )
    assert (denied["upstreams"], over["upstreams"]) == ({"scripted": "denied"}, {"scripted": "ok"})
    told = [f'regate_upstream_denied{{upstream="scripted"}} {value}' for value in ("1.0", "0.0")]
    assert [told[0] in figures, told[1] in figures_after] == [True, True]


@pytest.mark.parametrize("status", [400, 422, 501])
async def test_refusal_says_where_its_reason_is_found(world: World, status: int) -> None:
    async with world.http() as http:
        found = []
        for path, body in (("/chat/completions", CHAT), ("/responses", {"model": "small", "input": "Hi"})):
            world.upstream.turns = [refusing(status)]
            answer = await http.post(path, json=body)
            found.append(
                (
                    answer.status_code,
                    "x-request-id" in answer.json()["error"]["message"],
                    "secret" in answer.text,
                )
            )

    assert found == [(400, True, False)] * 2


async def test_operator_may_have_an_upstreams_own_words_about_a_refusal_shown(
    configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path
) -> None:
    settings = configure(
        upstreams=[{"name": "open", "base_url": upstream.url, "models": ["small"], "show_errors": True}]
    )
    app, gateway = gateway_app(settings)
    upstream.turns = [refusing(400), refusing(422), refusing(500)]
    async with (
        Running(app, settings.listen) as server,
        World(server.url, settings, gateway, upstream, policies).http() as http,
    ):
        answers = [await http.post("/responses", json={"model": "small", "input": "Hi"}) for _ in range(3)]
    told = [answer.json()["error"]["message"] for answer in answers]

    words = "The backend refused the request: secret words of … bad '$ref'"
    assert told == [words, words, "The backend failed to answer."]


BREAKING: dict[str, tuple[Turn, str]] = {
    "refused": (answering(json.dumps({"error": {"message": SECRET, "code": 500}}).encode()), "10.0.0.5"),
    "an error amid the stream": (
        streaming(text("Half")[0], {"error": {"message": SECRET, "code": 500}}),
        "10.0.0.5",
    ),
    "cut": (streaming(text("Half")[0]), "without a finish reason"),
    "a bad end": (
        streaming({"choices": [{"delta": {"content": "Half"}, "finish_reason": "network_error"}]}),
        "network_error",
    ),
    "no answer": (streaming({"choices": [{"delta": {}, "finish_reason": "stop"}]}), "no answer"),
}


@pytest.mark.parametrize("case", BREAKING)
@pytest.mark.parametrize(
    "mode", [{}, {"stream": True}, {"background": True}], ids=["plain", "streamed", "background"]
)
async def test_why_a_response_failed_is_logged_once_with_all_that_finds_it(
    world: World, caplog: pytest.LogCaptureFixture, case: str, mode: dict[str, Any]
) -> None:
    turn, cause = BREAKING[case]
    world.upstream.turns = [turn]
    with caplog.at_level(logging.INFO):
        async with world.http() as http:
            answer = await http.post("/responses", json={"model": "small", "input": "Hi", **mode})
            if "background" in mode:
                async with http.stream("GET", f"/responses/{answer.json()['id']}?stream=true") as followed:
                    assert "response.failed" in (await followed.aread()).decode()
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]

    assert [record.getMessage() for record in told] == ["response_failed"]
    about = vars(told[0])
    assert (about["request_id"], about["upstream"]) == (answer.headers["x-request-id"], "scripted")
    assert about["response"].startswith("resp_")
    assert cause in about["detail"]


async def test_embeddings_and_completions_are_held_to_the_same(world: World) -> None:
    async with world.http() as http:
        found = [
            (await http.post(path, json={"model": "small", name: "x"})).status_code
            for path, name in (("/embeddings", "input"), ("/completions", "prompt"))
        ]

    assert found == [
        200,
        400,
    ]  # the scripted upstream has no completions: its plain 404 is a refusal in our words
