"""A stream of events on its way out: what is one event is one message to the server, and nothing holds
it back.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from regate_gateway.http.connection import Emit, EventStream
from regate_gateway.http.presence import Presence, tell
from regate_orchestrator.errors import InvalidRequest, StateUnavailable

SCOPE: dict[str, Any] = {"type": "http", "state": {"request_id": "req_1"}}
tell(SCOPE, Presence())


async def test_each_event_is_sent_whole_and_as_soon_as_it_is_made() -> None:
    sent: list[dict[str, Any]] = []
    seen: list[int] = []

    async def produce(emit: Emit) -> None:
        for number in range(3):
            await emit(
                {"type": "response.output_text.delta", "sequence_number": number, "delta": "two\n\nlines"}
            )
            seen.append(len(sent))

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    async def send(message: Any) -> None:
        sent.append(message)

    await EventStream(produce, obscured=False)(SCOPE, receive, send)
    bodies = [message["body"] for message in sent if message["type"] == "http.response.body"]

    assert seen == [2, 3, 4]  # the headers, and each event at once
    assert all(
        body.startswith(b"event: ") and body.endswith(b"\n\n") and body.count(b"\n\n") == 1
        for body in bodies[:-1]
    )
    assert bodies[-1] == b"data: [DONE]\n\n"


class Client:
    """Takes in what is sent, and can wait for a part of it."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.heard = asyncio.Condition()

    async def receive(self) -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    async def send(self, message: Any) -> None:
        async with self.heard:
            self.messages.append(message)
            self.heard.notify_all()

    async def until(self, wanted: bytes, *, times: int = 1) -> None:
        async with asyncio.timeout(30), self.heard:
            await self.heard.wait_for(lambda: self.body.count(wanted) >= times)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


COMMENT = b": keep-alive\n\n"


async def test_silent_stream_is_kept_alive_before_its_first_event_and_amid_them() -> None:
    client = Client()

    async def produce(emit: Emit) -> None:
        await client.until(COMMENT, times=2)
        await emit({"type": "response.created"})
        await client.until(COMMENT, times=5)
        await emit({"type": "response.completed"})

    await EventStream(produce, obscured=False, silence_s=0.02)(SCOPE, client.receive, client.send)
    events = [block for block in client.body.split(b"\n\n") if not block.startswith(b":")]

    assert [message["type"] for message in client.messages].count("http.response.start") == 1
    assert client.messages[0]["status"] == 200
    assert [block.splitlines()[0] for block in events if block] == [
        b"event: response.created",
        b"event: response.completed",
        b"data: [DONE]",
    ]


async def test_stream_that_is_not_silent_is_not_kept_alive() -> None:
    client = Client()

    async def produce(emit: Emit) -> None:
        for number in range(50):
            await emit({"type": "response.output_text.delta", "sequence_number": number})

    await EventStream(produce, obscured=False)(SCOPE, client.receive, client.send)

    assert COMMENT not in client.body


async def test_failure_before_anything_was_sent_is_for_the_boundary() -> None:
    client = Client()

    async def produce(emit: Emit) -> None:
        raise InvalidRequest("No.", param="input")

    with pytest.raises(InvalidRequest):
        await EventStream(produce, obscured=False)(SCOPE, client.receive, client.send)
    assert client.messages == []


async def test_failure_after_comments_alone_is_an_error_event() -> None:
    client = Client()

    async def produce(emit: Emit) -> None:
        await client.until(COMMENT)
        raise InvalidRequest("No.", param="input", code="invalid_value")

    await EventStream(produce, obscured=False, silence_s=0.02)(SCOPE, client.receive, client.send)
    told = [block for block in client.body.split(b"\n\n") if block and not block.startswith(b":")]

    assert told == [
        (
            b"event: error\ndata: "
            b'{"type":"error","sequence_number":0,"code":"invalid_value","message":"No.","param":"input"}'
        ),
        b"data: [DONE]",
    ]
    assert client.messages[-1]["more_body"] is False


async def test_failure_after_an_event_is_for_the_boundary_whatever_came_before() -> None:
    client = Client()

    async def produce(emit: Emit) -> None:
        await client.until(COMMENT)
        await emit({"type": "response.created"})
        await client.until(COMMENT, times=client.body.count(COMMENT) + 1)
        raise StateUnavailable("the disk is gone")

    with pytest.raises(StateUnavailable):
        await EventStream(produce, obscured=False, silence_s=0.02)(SCOPE, client.receive, client.send)
    assert b"the disk" not in client.body
