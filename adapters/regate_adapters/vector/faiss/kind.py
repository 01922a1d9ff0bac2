"""FAISS as a kind of vector engine."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from regate_adapters.vector.faiss.settings import FaissSettings
from regate_adapters.vector.kind import Configured, Extra
from regate_adapters.vector.local.kind import Tabled
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import VectorStore


class Faiss(Tabled[FaissSettings]):
    """A SQLite file, searched in memory by FAISS."""

    settings = FaissSettings
    title = "FAISS embedded"
    extra = Extra("faiss", module="faiss", what="FAISS")

    def open(
        self, configured: Configured[FaissSettings], schema: RowSchema
    ) -> AbstractAsyncContextManager[VectorStore]:
        """Return the store in the directory."""
        from regate_adapters.vector.faiss.engine import faiss_store

        return faiss_store(configured.settings.path, schema, memory=configured.settings.memory)
