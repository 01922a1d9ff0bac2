"""API keys in the state store: which there are, what each stands for, and which are revoked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, insert, select, update

from regate_adapters.state.callers.tables import api_keys
from regate_adapters.state.database import Database
from regate_orchestrator.rows.api_keys import ApiKeyRow


class ApiKeyState:
    """The part of the state store that keeps API keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, row: ApiKeyRow) -> None:
        """Keep a new key."""
        values = {
            "id": row.id,
            "digest": row.digest,
            "tenant": row.claims["tenant"],
            "claims": dict(row.claims),
            "name": row.name,
            "created_at": row.created_at,
            "expires_at": row.expires_at,
            "revoked_at": row.revoked_at,
        }
        async with self._database.writing(str(row.claims["tenant"])) as connection:
            await connection.execute(insert(api_keys).values(values))

    async def find(self, identifier: str) -> ApiKeyRow | None:
        """Return the key with this id, by the primary key."""
        async with self._database.maintenance.reading() as connection:
            row = (await connection.execute(select(api_keys).where(api_keys.c.id == identifier))).first()
        return None if row is None else _of(row)

    async def all(self, *, tenant: str | None) -> Sequence[ApiKeyRow]:
        """Return the keys of a tenant, or of all; the newest first."""
        wanted = select(api_keys).order_by(api_keys.c.created_at.desc(), api_keys.c.id)
        if tenant is not None:
            wanted = wanted.where(api_keys.c.tenant == tenant)
        async with self._database.maintenance.reading() as connection:
            return [_of(row) for row in await connection.execute(wanted)]

    async def revoke(self, identifier: str, *, at: int) -> ApiKeyRow | None:
        """Revoke the key. The first revocation stands."""
        this = api_keys.c.id == identifier
        async with self._database.maintenance.writing() as connection:
            await connection.execute(
                update(api_keys).where(this, api_keys.c.revoked_at.is_(None)).values(revoked_at=at)
            )
            row = (await connection.execute(select(api_keys).where(this))).first()
        return None if row is None else _of(row)


def _of(row: Row[Any]) -> ApiKeyRow:
    return ApiKeyRow(row.id, row.digest, row.claims, row.name, row.created_at, row.expires_at, row.revoked_at)
