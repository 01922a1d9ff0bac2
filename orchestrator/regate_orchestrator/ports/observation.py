"""What is told of the work: audit records, which must be written."""

from __future__ import annotations

from typing import Protocol

from regate_orchestrator.values import JsonObject


class AuditLog(Protocol):
    """The append-only record of decisions and data accesses."""

    async def record(self, record: JsonObject) -> None:
        """Append one record. When this returns, the record survives the end of this process. Raises
        `AuditUnavailable` (I12).
        """
        ...
