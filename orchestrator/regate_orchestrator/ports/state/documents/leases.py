"""Leases of attachments, in the state store."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from regate_orchestrator.rows import Attachment


class LeaseState(Protocol):
    """Hands attachments of all tenants out to workers, for ingestion alone."""

    async def take(self, *, ttl_s: int, after: str, passing_over: Collection[str] = ()) -> Attachment | None:
        """Return an attachment in progress that no other worker gets meanwhile, with one attempt more and a
        generation of its own; or None.

        The generation is orphaned when the lease expires. Tenants take turns, in the order of their names,
        beginning beyond `after`; those that are to be passed over have none.
        """
        ...

    async def renew(self, leased: Attachment, *, ttl_s: int) -> bool:
        """Hold the attachment from now for so long; return False when it is no longer ours to finish."""
        ...

    async def release(self, leased: Attachment, *, retry_in_s: int, counted: bool) -> None:
        """Let others lease it after that time; an attempt that is not counted is taken back. What was
        written is orphaned.
        """
        ...

    async def release_all(self) -> int:
        """Let others lease everything that is held, and return how much. At start, and only where
        `is_shared` is false.
        """
        ...

    async def finish(
        self,
        leased: Attachment,
        *,
        status: str,
        usage_bytes: int = 0,
        chunks: int = 0,
        recipe: str = "",
        error_code: str | None = None,
        error_message: str | None = None,
    ) -> bool:
        """Set the outcome; when completed, the generation of the lease counts from now on, and is known to be
        made by the recipe. The chunks that were kept for the attachment (`Attachment.made`) are kept no
        longer. Return False, and change nothing, when it is not ours.
        """
        ...
