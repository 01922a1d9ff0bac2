"""Sweeping: what is of no more use to anybody is removed in the background, once at start and then every
minute.

A collector is a small function that may be run at any time, by several processes at once, and again after it
failed in the middle. What it removes was absent for every caller before: nobody waits for a collector, and
nothing depends on one having run.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

from regate_orchestrator.errors import RegateError
from regate_orchestrator.ports import AuditLog, BlobStore, FileState, OrphanedBlobState, VectorStore
from regate_orchestrator.rows import ExpiredFile

_log = logging.getLogger("regate.garbage_collection")
_EVERY_SECONDS: Final = 60.0
_BATCH: Final = 100

Collector: TypeAlias = Callable[[], Awaitable[int]]
"""Removes what it can, and returns how many things. Must be idempotent."""


class GarbageCollector:
    """Runs collectors, by their names, one after the other. One that fails is logged and tried again
    the next time; it never ends another.
    """

    def __init__(self, collectors: Mapping[str, Collector], *, every_s: float = _EVERY_SECONDS) -> None:
        self._collectors = dict(collectors)
        self._every_s = every_s
        self.removed: Counter[str] = Counter(dict.fromkeys(collectors, 0))
        """What each collector has removed since the start."""

    async def once(self) -> dict[str, int]:
        """Run each collector and return what it removed; a collector that failed is not in it."""
        removed: dict[str, int] = {}
        for name, collector in self._collectors.items():
            try:
                removed[name] = await collector()
            except Exception as error:  # noqa: BLE001 — housekeeping must never end the gateway
                _log.warning("garbage_collection_failed", extra={"command": name, "cause": _cause(error)})
            else:
                self.removed[name] += removed[name]
                if removed[name]:
                    _log.info("collected", extra={"command": name, "count": removed[name]})
        return removed

    async def work(self) -> None:
        """Collect until cancelled, beginning now."""
        while True:
            await self.once()
            await asyncio.sleep(self._every_s)


class FileGarbage:
    """The collectors of files. A file whose chunks or bytes cannot be removed now keeps its row, and
    keeps no other file from being collected.
    """

    def __init__(
        self,
        *,
        files: FileState,
        orphaned_blobs: OrphanedBlobState,
        blobs: BlobStore,
        vectors: VectorStore,
        audit: AuditLog,
    ) -> None:
        self._files = files
        self._orphaned_blobs = orphaned_blobs
        self._blobs = blobs
        self._vectors = vectors
        self._audit = audit

    async def expired(self) -> int:
        """Remove expired files: their chunks, their bytes, then their rows, each after a record of it.
        Return how many.
        """
        removed, last = 0, None
        while batch := await self._files.expired(after=last, limit=_BATCH):
            last = batch[-1]
            for file in batch:
                try:
                    await self._remove(file)
                    removed += 1
                except RegateError as error:
                    _log.warning("file_left_behind", extra={"file": file.id, "cause": _cause(error)})
        return removed

    async def orphaned(self) -> int:
        """Remove bytes without a file: of uploads whose process died, and of deleted files whose
        storage did not answer. Return how many.
        """
        removed, last = 0, None
        while batch := await self._orphaned_blobs.due(after=last, limit=_BATCH):
            last = batch[-1]
            for blob in batch:
                try:
                    await self._blobs.delete(blob.file_id)
                    await self._orphaned_blobs.forget(blob.file_id)
                    removed += 1
                except RegateError as error:
                    _log.warning("blob_left_behind", extra={"file": blob.file_id, "cause": _cause(error)})
        return removed

    async def _remove(self, file: ExpiredFile) -> None:
        await self._audit.record(
            {
                "kind": "sweep",
                "phase": "file.expire",
                "tenant": file.tenant,
                "about": file.id,
                "stores": list(file.stores),
            }
        )
        for store in file.stores:
            await self._vectors.remove(store, file.id)
        await self._blobs.delete(file.id)
        await self._files.drop_expired(file.id)


def _cause(error: Exception) -> str:
    return f"{type(error).__name__}: {getattr(error, 'detail', '')}"
