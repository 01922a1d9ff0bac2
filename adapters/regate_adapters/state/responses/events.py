"""The log of a response's events in the state store: what a reader of a background response is sent,
from wherever it left off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import BigInteger, Select, delete, func, insert, literal, select

from regate_adapters.state.database import Database
from regate_adapters.state.tables import response_events, responses
from regate_adapters.state.visibility import named, within
from regate_orchestrator.errors import StateUnavailable
from regate_orchestrator.lineage import Source, read_sources, written
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import UNFINISHED, LoggedEvent
from regate_orchestrator.values import ResponseId

_LOGS_READ: Final = 10_000
_LOGS_AT_ONCE: Final = 10
"""Others may write between so many logs and the next: a log has a few thousand events at most."""


class EventState:
    """The part of the state store that keeps events of responses."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, principal: Principal, response: ResponseId, events: Sequence[LoggedEvent]) -> None:
        """Append to the log, and keep the response this gateway's meanwhile. A sequence number that is
        there already is refused by the key.
        """
        if not events:
            return
        ours = select(responses.c.id).where(
            responses.c.id == response,
            within(responses.c.tenant, principal.tenant),
            responses.c.gateway == self._database.gateway,
        )
        rows = [
            {
                "response_id": response,
                "sequence": logged.event["sequence_number"],
                "event": logged.event,
                "sources": written(logged.sources) or None,
            }
            for logged in events
        ]
        async with self._database.writing(principal.tenant) as connection:
            if await connection.scalar(ours.with_for_update(read=True)) is None:
                raise StateUnavailable("the response is not stored, or not this gateway's any more")
            await connection.execute(insert(response_events), rows)

    async def read(
        self, principal: Principal, response: ResponseId, *, after: int, limit: int
    ) -> list[LoggedEvent]:
        """Return the logged events with a greater sequence number, in order."""
        later = response_events.c.sequence > literal(
            after, BigInteger
        )  # what callers ask for may be wider than the column
        wanted = (
            select(response_events.c.event, response_events.c.sources)
            .join(responses, responses.c.id == response_events.c.response_id)
            .where(named(responses.c.id, response), within(responses.c.tenant, principal.tenant), later)
            .order_by(response_events.c.sequence)
            .limit(limit)
        )
        async with self._database.reading(principal.tenant) as connection:
            rows = (await connection.execute(wanted)).all()
        return [LoggedEvent(row.event, tuple(read_sources(row.sources or ()))) for row in rows]

    async def sources(self, principal: Principal, response: ResponseId, *, through: int) -> list[Source]:
        """Return the sources that are logged with the events up to this sequence number."""
        wanted = (
            select(response_events.c.sources)
            .join(responses, responses.c.id == response_events.c.response_id)
            .where(
                named(responses.c.id, response),
                within(responses.c.tenant, principal.tenant),
                response_events.c.sequence <= through,
            )
            .order_by(response_events.c.sequence)
        )
        async with self._database.reading(principal.tenant) as connection:
            return [
                source
                for sources in await connection.scalars(wanted)
                for source in read_sources(sources or ())
            ]

    async def forget(self, *, made_before: int) -> int:
        """Delete the logs of responses that were made before this time and have ended; return how many
        events. What they tell is in the row.

        Nobody is kept from writing while they are looked for, nor for longer than a few of them take.
        """
        forgotten = 0
        while ended := await self._logged(made_before=made_before):
            for start in range(0, len(ended), _LOGS_AT_ONCE):
                few = response_events.c.response_id.in_(ended[start : start + _LOGS_AT_ONCE])
                async with self._database.maintenance.writing() as connection:
                    forgotten += (await connection.execute(delete(response_events).where(few))).rowcount
        return forgotten

    async def _logged(self, *, made_before: int) -> list[ResponseId]:
        """Return responses that were made before this time, have ended, and have a log still."""
        logs = _logs().cte("logs", recursive=True)
        following = (
            select(func.min(response_events.c.response_id))
            .where(response_events.c.response_id > logs.c.id)
            .scalar_subquery()
        )
        logs = logs.union_all(select(following).where(logs.c.id.is_not(None)))
        wanted = select(responses.c.id).join(logs, logs.c.id == responses.c.id)
        ended = wanted.where(
            responses.c.created_at < made_before, responses.c.status.not_in(UNFINISHED)
        ).limit(_LOGS_READ)
        async with self._database.maintenance.reading() as connection:
            return list(await connection.scalars(ended))


def _logs() -> Select[tuple[str]]:
    """Return the first response that has a log; each next one is found from the one before it, past
    the events between.
    """
    return select(func.min(response_events.c.response_id).label("id")).where(
        response_events.c.response_id > ""
    )
