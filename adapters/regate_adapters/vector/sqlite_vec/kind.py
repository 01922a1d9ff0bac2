"""sqlite-vec as a kind of vector engine."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from regate_adapters.vector.kind import Configured, Extra
from regate_adapters.vector.local.kind import Tabled
from regate_adapters.vector.sqlite_vec.settings import SqliteVecSettings
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import VectorStore


class SqliteVec(Tabled[SqliteVecSettings]):
    """A SQLite file, searched inside SQLite by sqlite-vec."""

    settings = SqliteVecSettings
    title = "sqlite-vec embedded"
    extra = Extra("sqlite-vec", module="sqlite_vec", what="sqlite-vec")

    def open(
        self, configured: Configured[SqliteVecSettings], schema: RowSchema
    ) -> AbstractAsyncContextManager[VectorStore]:
        """Return the store in the directory."""
        from regate_adapters.vector.sqlite_vec.engine import sqlite_vec_store

        return sqlite_vec_store(configured.settings.path, schema)
