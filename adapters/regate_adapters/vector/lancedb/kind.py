"""LanceDB as a kind of vector engine."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from regate_adapters.vector.kind import Configured, Extra
from regate_adapters.vector.lancedb.settings import LanceDbSettings
from regate_adapters.vector.marked.kind import MarkedKind

if TYPE_CHECKING:
    from regate_adapters.vector.marked.engine import MarkedEngine
    from regate_adapters.vector.marked.filter import Limits


class LanceDb(MarkedKind[LanceDbSettings]):
    """LanceDB inside the gateway's process."""

    settings = LanceDbSettings
    title = "LanceDB embedded"
    extra = Extra("lancedb", module="lancedb", what="LanceDB")
    of_one_process = True

    def check(self, configured: Configured[LanceDbSettings]) -> None:
        """Accept: whether the directory can be used is checked for every embedded engine."""

    async def examine(self, configured: Configured[LanceDbSettings]) -> str:
        """Return the directory; it is not opened, since only one process may hold it."""
        return f"embedded LanceDB in {configured.settings.path}"

    def engine(self, configured: Configured[LanceDbSettings]) -> AbstractAsyncContextManager[MarkedEngine]:
        """Return the engine in the directory."""
        from regate_adapters.vector.lancedb.engine import LanceEngine

        return LanceEngine(configured.settings.path, timeout_s=configured.settings.timeout_s)

    @property
    def limits(self) -> Limits:
        """Return what its filters may be."""
        from regate_adapters.vector.lancedb.filter import LIMITS

        return LIMITS

    def proof(self, folder: Path, url: str) -> Configured[LanceDbSettings]:  # noqa: ARG002 — it has no server
        """Return one in a directory of its own."""
        return Configured(LanceDbSettings(path=folder / "lancedb"), "proof")
