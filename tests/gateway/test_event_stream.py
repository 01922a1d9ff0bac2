"""A stream of events on its way out: what is one event is one message to the server, and nothing holds it back."""

from __future__ import annotations

import asyncio
from typing import Any

from regate_gateway.connection import Emit, EventStream


async def test_each_event_is_sent_whole_and_as_soon_as_it_is_made() -> None:
    sent: list[dict[str, Any]] = []
    seen: list[int] = []

    async def produce(emit: Emit) -> None:
        for number in range(3):
            await emit({"type": "response.output_text.delta", "sequence_number": number, "delta": "two\n\nlines"})
            seen.append(len(sent))

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    async def send(message: Any) -> None:
        sent.append(message)

    await EventStream(produce, obscured=False)({"type": "http"}, receive, send)
    bodies = [message["body"] for message in sent if message["type"] == "http.response.body"]

    assert seen == [2, 3, 4]  # the headers, and each event at once
    assert all(body.startswith(b"event: ") and body.endswith(b"\n\n") and body.count(b"\n\n") == 1 for body in bodies[:-1])
    assert bodies[-1] == b"data: [DONE]\n\n"
