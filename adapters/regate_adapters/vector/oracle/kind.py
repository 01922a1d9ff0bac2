"""Oracle AI Vector Search as a kind of vector engine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regate_adapters.vector.kind import MARKED_REFUSES, Configured, EngineKind, Extra, Renderer
from regate_adapters.vector.oracle.settings import OracleSettings
from regate_orchestrator.errors import ConfigurationError
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import VectorStore

if TYPE_CHECKING:
    from regate_adapters.vector.oracle.engine import OracleEngine


class Oracle(EngineKind[OracleSettings]):
    """Oracle Database with AI Vector Search."""

    settings = OracleSettings
    title = "Oracle AI Vector Search"
    refuses = MARKED_REFUSES
    extra = Extra("oracle", module="oracledb", what="Oracle's driver")
    server = "oracle"

    def check(self, configured: Configured[OracleSettings]) -> None:
        """Raise `ConfigurationError` for a wallet that is no directory."""
        wallet = configured.settings.wallet
        if wallet is not None and not wallet.is_dir():
            raise ConfigurationError(f"{configured.place}.wallet: {wallet} is not a directory")

    async def examine(self, configured: Configured[OracleSettings]) -> str:
        """Return that the database answers. Raises `ConfigurationError` when it does not."""
        import oracledb

        settings = configured.settings
        try:
            async with asyncio.timeout(settings.timeout_s):
                connection = await _connecting(configured)()
                version = str(connection.version)
                await connection.close()
        except (oracledb.Error, OSError) as error:
            said = f"{configured.place}.dsn: no Oracle answers at {settings.dsn}"
            raise ConfigurationError(said) from error
        return f"Oracle {version} answers at {settings.dsn}"

    def open(
        self, configured: Configured[OracleSettings], schema: RowSchema
    ) -> AbstractAsyncContextManager[VectorStore]:
        """Return the store in the database."""
        return _opened(configured, schema)

    def renderer(self, schema: RowSchema) -> Renderer:
        """Return what renders a condition on marks."""
        from regate_adapters.vector.marked.filter import render
        from regate_adapters.vector.marked.marks import Marking
        from regate_adapters.vector.oracle.filter import MOST_CONDITIONS

        marking = Marking.of(schema)
        return lambda plan: render(plan, marking, most_conditions=MOST_CONDITIONS)

    def proof(self, folder: Path, url: str) -> Configured[OracleSettings]:  # noqa: ARG002 — it has no files
        """Return one in the database at `user@host:port/service`, with the password of a variable."""
        user, _, dsn = url.rpartition("@")
        settings = OracleSettings(dsn=dsn, user=user or "regate", password_env="REGATE_ORACLE_PASSWORD")  # noqa: S106
        secret = os.environ.get(settings.password_env, "")
        return Configured(settings, "proof", {"password_env": secret})


def _connecting(configured: Configured[OracleSettings]) -> Callable[[], Awaitable[Any]]:
    import oracledb

    settings, secrets = configured.settings, configured.secrets
    given: dict[str, Any] = (
        {}
        if settings.wallet is None
        else {
            "config_dir": str(settings.wallet),
            "wallet_location": str(settings.wallet),
            "wallet_password": secrets.get("wallet_password_env"),
        }
    )

    async def connect() -> Any:
        return await oracledb.connect_async(
            dsn=settings.dsn,
            user=settings.user,
            password=secrets["password_env"],
            tcp_connect_timeout=settings.timeout_s,
            **given,
        )

    return connect


def _engine(configured: Configured[OracleSettings]) -> OracleEngine:
    from regate_adapters.vector.oracle.engine import OracleEngine

    settings = configured.settings
    return OracleEngine(
        _connecting(configured),
        setting=f"{configured.place}.dsn",
        connections=settings.connections,
        timeout_s=settings.timeout_s,
    )


@asynccontextmanager
async def _opened(configured: Configured[OracleSettings], schema: RowSchema) -> AsyncIterator[VectorStore]:
    from regate_adapters.vector.marked.store import MarkedVectorStore
    from regate_adapters.vector.oracle.filter import MOST_CONDITIONS

    async with _engine(configured) as engine:
        yield MarkedVectorStore(engine, schema, shared=True, most_conditions=MOST_CONDITIONS)
