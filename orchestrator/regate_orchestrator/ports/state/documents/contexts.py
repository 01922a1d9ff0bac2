"""The contexts of chunks, as they were written by a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from regate_orchestrator.principal import Principal
from regate_orchestrator.values import FileId


class ContextState(Protocol):
    """Keeps contexts with the file whose chunks they are of. They go with it."""

    async def of(self, principal: Principal, file: FileId, digests: Sequence[str]) -> Mapping[str, str]:
        """Return those of the tenant's file that are kept under these digests."""
        ...

    async def keep(self, principal: Principal, file: FileId, contexts: Mapping[str, str]) -> None:
        """Keep contexts by their digests. Of a file that is gone none is kept."""
        ...
