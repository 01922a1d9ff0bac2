"""`/v1/responses` over a WebSocket, with the official client and with frames by hand."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest
from tests.e2e.conftest import World, text, tool_call
from tests.orchestrator.responses.playbook import check_stream
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


def socket(world: World, token: str | None) -> Any:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return connect(world.url.replace("http", "ws") + "/v1/responses", additional_headers=headers)


async def ask(connection: ClientConnection, **body: Any) -> list[dict[str, Any]]:
    await connection.send(json.dumps({"type": "response.create", "model": "small", **body}))
    return await answer(connection)


async def answer(connection: ClientConnection) -> list[dict[str, Any]]:
    """The frames up to the one that ends a response."""
    frames: list[dict[str, Any]] = []
    async with asyncio.timeout(120):
        while not frames or frames[-1]["type"] not in (
            "response.completed",
            "response.incomplete",
            "response.failed",
            "error",
        ):
            frames.append(json.loads(await connection.recv()))
    return frames


async def test_official_client_gets_a_whole_stream_over_a_socket(world: World) -> None:
    world.upstream.turns = [text("Hel", "lo")]
    async with world.client().responses.connect() as connection:
        await connection.response.create(model="small", input="Hi")
        events = []
        async for event in connection:
            events.append(event)
            if event.type == "response.completed":
                break
    check_stream([event.to_dict() for event in events])

    assert events[-1].response.output_text == "Hello"  # type: ignore[union-attr]


async def test_turns_of_one_connection_follow_each_other(world: World) -> None:
    world.upstream.turns = [text("Paris."), text("Two million.")]
    async with socket(world, world.token("alice", "acme")) as connection:
        first = await ask(connection, input="Capital?")
        second = await ask(connection, input="How many?", previous_response_id=first[-1]["response"]["id"])

    assert [message["content"] for message in world.upstream.requests[-1]["messages"]] == [
        "Capital?",
        "Paris.",
        "How many?",
    ]
    assert second[0]["sequence_number"] == 0


async def test_frame_may_say_that_nothing_runs_in_the_background(world: World) -> None:
    async with socket(world, world.token("alice", "acme")) as connection:
        last = [(await ask(connection, input="Hi", background=said))[-1] for said in (False, True)]
    assert [event["type"] for event in last] == ["response.completed", "error"]
    assert last[1]["param"] == "background"


async def test_unstored_response_can_be_continued_on_its_connection_and_nowhere_else(world: World) -> None:
    world.upstream.turns = [text("One."), text("Two."), text("Three.")]
    async with socket(world, world.token("alice", "acme")) as connection:
        first = await ask(connection, input="1", store=False)
        second = await ask(
            connection, input="2", store=False, previous_response_id=first[-1]["response"]["id"]
        )
        third = await ask(
            connection, input="3", store=False, previous_response_id=second[-1]["response"]["id"]
        )
        gone = await ask(connection, input="4", store=False, previous_response_id=first[-1]["response"]["id"])
    async with socket(world, world.token("alice", "acme")) as other:
        absent = await ask(other, input="4", store=False, previous_response_id=third[-1]["response"]["id"])

    assert [message["content"] for message in world.upstream.requests[-1]["messages"]] == [
        "1",
        "One.",
        "2",
        "Two.",
        "3",
    ]
    assert [(frames[-1]["status"], frames[-1]["error"]["code"]) for frames in (gone, absent)] == [
        (400, "previous_response_not_found")
    ] * 2


async def test_failed_continuation_forgets_what_it_continued_and_keeps_the_connection(world: World) -> None:
    world.upstream.turns = [text("One."), text("Fresh.")]
    async with socket(world, world.token("alice", "acme")) as connection:
        first = await ask(connection, input="1", store=False)
        identifier = first[-1]["response"]["id"]
        unpaired = [{"type": "function_call_output", "call_id": "nobody", "output": "x"}]
        failed = await ask(connection, input=unpaired, store=False, previous_response_id=identifier)
        again = await ask(connection, input="2", store=False, previous_response_id=identifier)
        fresh = await ask(connection, input="3", store=False)

    assert (failed[-1]["status"], again[-1]["error"]["code"]) == (400, "previous_response_not_found")
    assert fresh[-1]["type"] == "response.completed"


async def test_warm_up_calls_no_model_and_can_be_continued(world: World) -> None:
    world.upstream.turns = [text("Hello.")]
    async with socket(world, world.token("alice", "acme")) as connection:
        warm = await ask(
            connection,
            input=[{"role": "developer", "content": "Be brief."}],
            store=False,
            generate=False,
            stream=True,
        )
        called = len(world.upstream.requests)
        await ask(connection, input="Hi", store=False, previous_response_id=warm[-1]["response"]["id"])

    assert ([frame["type"] for frame in warm], called) == (
        ["response.created", "response.in_progress", "response.completed"],
        0,
    )
    assert [message["content"] for message in world.upstream.requests[0]["messages"]] == ["Be brief.", "Hi"]


@pytest.mark.parametrize("token", [None, "not.a.token"])
async def test_handshake_without_a_good_token_is_refused_with_the_envelope(
    world: World, token: str | None
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with socket(world, token):
            pass

    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body)["error"]["type"] == "authentication_error"


async def test_token_that_expires_ends_the_connection_at_its_next_request(world: World) -> None:
    from regate_adapters.identity.jwt import mint_development_token
    from regate_gateway.auth.authentication import DEVELOPMENT_AUDIENCE, DEVELOPMENT_ISSUER, shared_secret

    secret = shared_secret(world.settings).reveal().encode()
    names = {
        "issuer": DEVELOPMENT_ISSUER,
        "audience": DEVELOPMENT_AUDIENCE,
        "subject": "alice",
        "tenant": "acme",
    }
    brief = mint_development_token(secret, ttl_s=-3, **names)  # within the leeway of five seconds
    async with socket(world, brief) as connection:
        frames: list[dict[str, Any]] = []
        async with asyncio.timeout(120):
            while not frames or frames[-1]["type"] != "error":
                frames = await ask(connection, input="Hi")
        with pytest.raises(ConnectionClosed) as closed:
            await connection.recv()

    assert (frames[-1]["status"], closed.value.rcvd.code if closed.value.rcvd else None) == (401, 1008)


@pytest.mark.parametrize(
    "frame",
    [
        "{",
        "[]",
        '{"type": "response.cancel"}',
        '{"type": "response.create"}',
        '{"type": "response.create", "model": "small", "input": 1}',
    ],
)
async def test_bad_frame_is_an_error_frame_and_the_connection_lives(world: World, frame: str) -> None:
    world.upstream.turns = [text("Fine.")]
    async with socket(world, world.token("alice", "acme")) as connection:
        await connection.send(frame)
        refused = await answer(connection)
        fine = await ask(connection, input="Hi")

    assert (refused[0]["type"], refused[0]["status"]) == ("error", 400)
    assert {name: refused[0][name] for name in ("code", "message", "param")}.items() <= refused[0][
        "error"
    ].items()
    assert fine[-1]["type"] == "response.completed"


async def test_another_persons_response_cannot_be_continued_over_a_socket(world: World) -> None:
    world.upstream.turns = [text("The codeword is plover.")]
    mine = await world.client("bob").responses.create(model="small", input="Codeword?")
    async with socket(world, world.token("alice", "acme")) as connection:
        frames = await ask(connection, input="Repeat it.", previous_response_id=mine.id)

    assert frames[-1]["error"]["code"] == "previous_response_not_found"
    assert len(world.upstream.requests) == 1


async def test_tools_are_answered_by_the_next_frame(world: World) -> None:
    world.upstream.turns = [tool_call("weather", {}), text("Sunny.")]
    tools = [{"type": "function", "name": "weather", "parameters": {"type": "object"}}]
    async with socket(world, world.token("alice", "acme")) as connection:
        first = await ask(connection, input="Weather?", store=False, tools=tools)
        call = first[-1]["response"]["output"][0]
        output = [{"type": "function_call_output", "call_id": call["call_id"], "output": "sun"}]
        second = await ask(
            connection,
            input=output,
            store=False,
            tools=tools,
            previous_response_id=first[-1]["response"]["id"],
        )

    assert second[-1]["response"]["output"][0]["content"][0]["text"] == "Sunny."


async def test_path_that_is_no_socket_is_a_404(world: World) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(
            world.url.replace("http", "ws") + "/v1/files", additional_headers={"Authorization": "Bearer x"}
        ):
            pass

    assert refused.value.response.status_code in (404, 405)


async def test_client_that_leaves_in_the_middle_ends_the_upstream_call(world: World) -> None:
    from tests.e2e.test_background import gated

    gate = asyncio.Event()
    world.upstream.turns = [gated(gate, "Begun", " never")]
    async with socket(world, world.token("alice", "acme")) as connection:
        await connection.send(json.dumps({"type": "response.create", "model": "small", "input": "Hi"}))
        created = json.loads(await connection.recv())
    client: openai.AsyncOpenAI = world.client()
    async with asyncio.timeout(120):
        while world.upstream.closed_early == 0:
            await asyncio.sleep(0.01)
        while (found := await client.responses.retrieve(created["response"]["id"])).status == "in_progress":
            await asyncio.sleep(0.01)

    assert found.status == "cancelled"
