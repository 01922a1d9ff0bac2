"""How much of what the state store keeps is a person's: responses, conversations, and versions of
prompts. Files are counted in `files.py`.
"""

from __future__ import annotations

from sqlalchemy import func, select, union_all

from regate_adapters.state.database import Database
from regate_adapters.state.tables import conversations, prompt_versions, prompts, responses
from regate_adapters.state.visibility import within
from regate_orchestrator.principal import Principal


class StoredBytesState:
    """The part of the state store that adds up."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, principal: Principal) -> int:
        """Return how many bytes the principal has stored, as JSON."""
        kept = union_all(
            *(
                select(table.c.bytes.label("bytes")).where(
                    within(table.c.tenant, principal.tenant), within(table.c.owner, principal.id)
                )
                for table in (responses, conversations)
            ),
            select(prompt_versions.c.bytes)
            .join(prompts, prompts.c.id == prompt_versions.c.prompt_id)
            .where(
                within(prompts.c.tenant, principal.tenant), within(prompt_versions.c.created_by, principal.id)
            ),
        ).subquery()
        async with self._database.reading(principal.tenant) as connection:
            return int(await connection.scalar(select(func.coalesce(func.sum(kept.c.bytes), 0))) or 0)
