"""The contexts of chunks, in the state store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as insert_in_postgres
from sqlalchemy.dialects.sqlite import insert as insert_in_sqlite

from regate_adapters.state.database import Database
from regate_adapters.state.tables import chunk_contexts, files
from regate_adapters.state.visibility import named, within
from regate_orchestrator.principal import Principal
from regate_orchestrator.values import FileId


class ContextState:
    """The part of the state store that keeps the contexts of chunks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, principal: Principal, file: FileId, digests: Sequence[str]) -> Mapping[str, str]:
        """Return those of the file that are kept under these digests."""
        own = select(chunk_contexts.c.digest, chunk_contexts.c.text).where(
            named(chunk_contexts.c.file_id, file), within(chunk_contexts.c.tenant, principal.tenant)
        )
        async with self._database.reading(principal.tenant) as connection:
            found = {row.digest: row.text for row in await connection.execute(own)}
        return {digest: found[digest] for digest in digests if digest in found}

    async def keep(self, principal: Principal, file: FileId, contexts: Mapping[str, str]) -> None:
        """Keep contexts, unless the file is gone."""
        if not contexts:
            return
        there = (
            select(files.c.id)
            .where(named(files.c.id, file), within(files.c.tenant, principal.tenant))
            .with_for_update(read=True, key_share=True)
        )
        values = [
            {"file_id": file, "tenant": principal.tenant, "digest": digest, "text": text}
            for digest, text in contexts.items()
        ]
        async with self._database.writing(principal.tenant) as connection:
            if await connection.scalar(there) is None:
                return
            is_postgres = connection.dialect.name == "postgresql"
            new = (insert_in_postgres if is_postgres else insert_in_sqlite)(chunk_contexts)
            await connection.execute(new.on_conflict_do_nothing(), values)
