"""pgvector as a kind of vector engine."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from regate_adapters.vector.kind import Configured, EngineKind, Extra, Renderer
from regate_adapters.vector.pgvector.settings import PgVectorSettings
from regate_orchestrator.errors import naming
from regate_orchestrator.filters.expression import expression_of
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import VectorStore


class PgVector(EngineKind[PgVectorSettings]):
    """PostgreSQL with pgvector."""

    settings = PgVectorSettings
    title = "PostgreSQL with pgvector"
    extra = Extra("postgres", module="psycopg", what="PostgreSQL's driver")
    server = "postgres"
    by_words = True

    def check(self, configured: Configured[PgVectorSettings]) -> None:
        """Raise `ConfigurationError` for what is no URL of PostgreSQL."""
        from regate_adapters.postgres import connection_parameters

        with naming(configured.named("url_env")):
            connection_parameters(configured.secrets["url_env"])

    async def examine(self, configured: Configured[PgVectorSettings]) -> str:
        """Return what the database has. Raises `ConfigurationError` that names the right it lacks."""
        from regate_adapters.vector.pgvector.store import PgVectorStore

        url, setting = configured.secrets["url_env"], configured.named("url_env")
        return await PgVectorStore(url, RowSchema("chunk", {}), setting=setting).examine()

    def open(
        self, configured: Configured[PgVectorSettings], schema: RowSchema
    ) -> AbstractAsyncContextManager[VectorStore]:
        """Return the store in the database."""
        from regate_adapters.vector.pgvector.pool import STATEMENT_SHARE
        from regate_adapters.vector.pgvector.store import PgVectorStore

        url, settings = configured.secrets["url_env"], configured.settings
        limit = settings.statement_timeout_s
        deadline: dict[str, Any] = {} if limit is None else {"deadline_s": limit / STATEMENT_SHARE}
        return PgVectorStore(
            url,
            schema,
            setting=configured.named("url_env"),
            pool_size=settings.pool_size,
            connect_s=settings.connect_timeout_s,
            memory=settings.memory_mb << 20,
            **deadline,
        )

    def renderer(self, schema: RowSchema) -> Renderer:
        """Return what renders a condition of SQL."""
        from regate_adapters.vector.pgvector.filter import Parameters, render

        return lambda plan: render(expression_of(plan), schema, Parameters())

    def proof(self, folder: Path, url: str) -> Configured[PgVectorSettings]:  # noqa: ARG002 — it has no files
        """Return one in the server's database."""
        return Configured(PgVectorSettings(url_env="REGATE_PROOF_POSTGRES"), "proof", {"url_env": url})
