"""A fault of ours in the middle of a response: it ends as failed, for whoever listens and for whoever
asks later.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from tests.e2e.conftest import World
from tests.orchestrator.responses.playbook import check_stream, request

from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.model_events import ModelEvent, TextWritten
from regate_orchestrator.principal import Principal
from regate_orchestrator.responses import driver
from regate_orchestrator.responses.driver import Start
from regate_orchestrator.responses.granting import Granted
from regate_orchestrator.responses.request import Limits, ResponseRequest
from regate_orchestrator.values import JsonObject, RequestId, ResponseId, mint


class Faulty:
    """A backend port with a fault: it breaks in a way that nobody foresaw."""

    @asynccontextmanager
    async def chat(
        self, upstream: str, payload: JsonObject, *, alternates: Sequence[str] = ()
    ) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        async def events() -> AsyncIterator[ModelEvent]:
            yield TextWritten("Half an ans")
            raise KeyError("a secret of ours")

        yield events()


async def granted(asked: ResponseRequest) -> Granted:
    async def nothing() -> None: ...

    return Granted(asked, Limits(), Faulty(), nothing)


def start(**changes: Any) -> Start:
    context = Context(Principal("alice", "acme"), RequestId(mint("req_")))
    return Start(request(model="small", **changes), context, ResponseId(mint("resp_")), granted)


async def test_stream_that_breaks_by_a_fault_of_ours_ends_as_failed(world: World) -> None:
    events: list[JsonObject] = []

    async def emit(event: JsonObject) -> None:
        events.append(event)

    assert world.gateway.services is not None
    begun = start(stream=True)
    outcome = await driver.run(begun, ports=world.gateway.services.loop, emit=emit)
    stored = await world.client().responses.retrieve(begun.response_id)
    check_stream(events)

    assert (events[-1]["type"], outcome.response["error"]["code"]) == ("response.failed", "server_error")  # type: ignore[index,call-overload]
    assert "secret" not in str(events)
    assert stored.status == "failed"


async def test_background_response_that_breaks_by_a_fault_of_ours_is_failed(world: World) -> None:
    assert world.gateway.services is not None
    begun = start(background=True)
    await world.gateway.services.background.start(begun)
    client = world.client()
    async with asyncio.timeout(60):
        while (found := await client.responses.retrieve(begun.response_id)).status in (
            "queued",
            "in_progress",
        ):
            await asyncio.sleep(0.02)

    assert found.status == "failed"
