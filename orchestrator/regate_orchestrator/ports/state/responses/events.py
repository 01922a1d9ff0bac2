"""The logs of events of background responses, in the state store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from regate_orchestrator.lineage import Source
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import LoggedEvent
from regate_orchestrator.values import ResponseId


class EventState(Protocol):
    """Keeps the events of responses."""

    async def append(self, principal: Principal, response: ResponseId, events: Sequence[LoggedEvent]) -> None:
        """Append to the log of events of a response of this gateway; each is kept under its
        `sequence_number`.

        One that is there is never replaced. A response that `end_interrupted` took from this gateway must get
        no more of them.
        """
        ...

    async def read(
        self, principal: Principal, response: ResponseId, *, after: int, limit: int
    ) -> list[LoggedEvent]:
        """Return the logged events with a greater sequence number, in order; -1 is before all. None
        are there for an invisible response.
        """
        ...

    async def sources(self, principal: Principal, response: ResponseId, *, through: int) -> list[Source]:
        """Return the sources that are logged with the events up to this sequence number: what those
        after it rest on as well.
        """
        ...

    async def forget(self, *, made_before: int) -> int:
        """Delete the logs of responses that were made before this time and have ended; return how many
        events.
        """
        ...
