"""What is told of the work: audit records, which must be written, and figures, which must not disturb."""

from __future__ import annotations

from typing import Literal, Protocol

from regate_orchestrator.errors import PolicyUnavailable
from regate_orchestrator.values import JsonObject


class AuditLog(Protocol):
    """The append-only record of decisions and data accesses."""

    async def record(self, record: JsonObject) -> None:
        """Append one record. When this returns, the record survives the end of this process. Raises
        `AuditUnavailable` (I12).
        """
        ...


class Meter(Protocol):
    """Counts what happened, for operators. Must be cheap, must never raise, and is told nothing of
    tenants, people or content (I11).
    """

    def asked(self, kind: Literal["ask", "plan", "batch"], *, seconds: float) -> None:
        """Note how long the policy engine was waited for, whether it answered or not."""
        ...

    def unanswered(self, error: PolicyUnavailable) -> None:
        """Note that the policy engine gave no usable answer, so that something was refused."""
        ...

    def decided(self, point: str, *, allowed: bool, count: int = 1) -> None:
        """Note decisions of a decision point, by its short name."""
        ...

    def examined(self, *, admitted: int, denied: int, gone: int) -> None:
        """Note what became of the candidates that a vector store returned."""
        ...


class Unmetered:
    """A meter that counts nothing: for tools that nobody watches."""

    def asked(self, kind: Literal["ask", "plan", "batch"], *, seconds: float) -> None:
        """Do nothing."""

    def unanswered(self, error: PolicyUnavailable) -> None:
        """Do nothing."""

    def decided(self, point: str, *, allowed: bool, count: int = 1) -> None:
        """Do nothing."""

    def examined(self, *, admitted: int, denied: int, gone: int) -> None:
        """Do nothing."""
