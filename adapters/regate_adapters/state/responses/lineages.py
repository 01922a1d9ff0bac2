"""Lineages in the state store: what stored items rest on, each source once for a whole thread of turns.
Within the caller's transaction.

A *thread* is a conversation, or a chain of responses: its first one's id. All items of a thread name their
lineage by id, and what a lineage grew from is a row of the same thread, so a thread's lineages are complete
without another's. They go with the last that is in the thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import delete, exists, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from regate_adapters.state.encoding import AnyRow
from regate_adapters.state.listing import in_parts
from regate_adapters.state.tables import conversations, lineages, responses
from regate_orchestrator.lineage import NOTHING_READ, ChunkSource, Lineage, read_sources, written
from regate_orchestrator.rows import StoredItem
from regate_orchestrator.values import FileId, StoreId

Lineages = Mapping[tuple[str, str], Lineage]
"""By thread and id."""

_LOST = ChunkSource(StoreId(""), FileId(""), "", {})
"""Stands for what cannot be found: no such chunk is ever permitted, so whatever rests on it stays
withheld.
"""


async def keep(connection: AsyncConnection, thread: str, tenant: str, items: Iterable[StoredItem]) -> None:
    """Store what these items rest on, as far as it is not kept in the thread already."""
    new: dict[str, Lineage] = {}
    for item in items:
        for part in reversed(item.lineage.parts()):
            if part.kept_in == thread or part.id in new or not part.size:
                break
            new[part.id] = part
    for ids in in_parts(list(new)):
        present = select(lineages.c.id).where(lineages.c.thread == thread, lineages.c.id.in_(ids))
        for found in await connection.scalars(present):
            del new[found]
    rows = [
        {
            "thread": thread,
            "id": part.id,
            "tenant": tenant,
            "grown_from": "" if part.parent is None else part.parent.id,
            "added": written(part.added),
        }
        for part in new.values()
    ]
    if rows:
        await connection.execute(insert(lineages), rows)


async def lineages_of(connection: AsyncConnection, threads: Sequence[str]) -> Lineages:
    """Return the lineages of these threads. What is the same in memory is one value, so that it is
    looked at once.
    """
    rows: dict[tuple[str, str], AnyRow] = {}
    for part in in_parts(list(dict.fromkeys(threads))):
        of_them = await connection.execute(select(lineages).where(lineages.c.thread.in_(part)))
        rows |= {(row.thread, row.id): row for row in of_them}
    made: dict[tuple[str, str], Lineage] = {}
    for key in rows:
        waiting: list[tuple[str, str]] = []
        while key in rows and key not in made:
            waiting.append(key)
            # Up to what is made already, then down again
            key = (key[0], rows[key].grown_from)  # noqa: PLW2901
        for thread, identifier in reversed(waiting):
            row = rows[thread, identifier]
            made[thread, identifier] = Lineage(
                _grown_from(made, thread, row.grown_from),
                tuple(read_sources(row.added)),
                id=identifier,
                kept_in=thread,
            )
    return made


def lineage_in(found: Lineages, thread: str, identifier: str) -> Lineage:
    """Return the lineage of an item; of one that is not there, one that is never permitted."""
    return NOTHING_READ if not identifier else found.get((thread, identifier)) or Lineage(None, (_LOST,))


async def forget_lineages(connection: AsyncConnection, thread: str) -> None:
    """Delete the thread's lineages if nothing is in it any more."""
    left = exists().where(responses.c.thread == thread) | exists().where(conversations.c.id == thread)
    await connection.execute(delete(lineages).where(lineages.c.thread == thread, ~left))


def _grown_from(made: Lineages, thread: str, identifier: str) -> Lineage | None:
    return None if not identifier else made.get((thread, identifier)) or Lineage(None, (_LOST,))
