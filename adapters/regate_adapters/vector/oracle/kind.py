"""Oracle AI Vector Search as a kind of vector engine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regate_adapters.vector.kind import Configured, Extra
from regate_adapters.vector.marked.kind import MarkedKind, examined
from regate_adapters.vector.oracle.settings import OracleSettings
from regate_orchestrator.errors import ConfigurationError

if TYPE_CHECKING:
    from regate_adapters.vector.marked.engine import MarkedEngine
    from regate_adapters.vector.marked.filter import Limits


class Oracle(MarkedKind[OracleSettings]):
    """Oracle Database with AI Vector Search."""

    settings = OracleSettings
    title = "Oracle AI Vector Search"
    extra = Extra("oracle", module="oracledb", what="Oracle's driver")
    server = "oracle"

    def check(self, configured: Configured[OracleSettings]) -> None:
        """Raise `ConfigurationError` for a wallet that is no directory."""
        wallet = configured.settings.wallet
        if wallet is not None and not wallet.is_dir():
            raise ConfigurationError(f"{configured.place}.wallet: {wallet} is not a directory")

    async def examine(self, configured: Configured[OracleSettings]) -> str:
        """Return that the database answers. Raises `ConfigurationError` when it does not."""
        from regate_adapters.vector.oracle.engine import failing

        settings, limit = configured.settings, configured.settings.timeout_s
        with examined(f"{configured.place}.dsn: Oracle", settings.dsn), failing("the first question", limit):
            async with asyncio.timeout(limit):
                connection = await _connecting(configured)()
                version = str(connection.version)
                await connection.close()
        return f"Oracle {version} answers at {settings.dsn}"

    def engine(self, configured: Configured[OracleSettings]) -> AbstractAsyncContextManager[MarkedEngine]:
        """Return the engine in the database."""
        from regate_adapters.vector.oracle.engine import OracleEngine

        settings = configured.settings
        return OracleEngine(
            _connecting(configured),
            setting=f"{configured.place}.dsn",
            connections=settings.connections,
            timeout_s=settings.timeout_s,
        )

    @property
    def limits(self) -> Limits:
        """Return what its filters may be."""
        from regate_adapters.vector.oracle.filter import LIMITS

        return LIMITS

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
