"""Which collectors a gateway runs, by the names that its log and its metrics give them (docs/operations.md,
What is collected).

Each must cost next to nothing while there is nothing to remove, however much there is, and must keep nobody
waiting for long while there is: tests look at the plan of every statement
(`tests/adapters/state/test_garbage_plans.py`).
"""

from __future__ import annotations

from typing import Final, Protocol

from regate_orchestrator.documents.upload_parts import KEPT_SECONDS
from regate_orchestrator.maintenance.garbage_collection import Collector, FileGarbage
from regate_orchestrator.maintenance.membership import Membership
from regate_orchestrator.maintenance.vector_garbage import VectorGarbage
from regate_orchestrator.values import Clock

EVENTS_KEPT_SECONDS: Final = 3_600
"""How long the log of a background response can be replayed event by event; after it, the stream is
told again from the Response.
"""


class RecordGarbageState(Protocol):
    """The state store as the collectors of what is kept for a while need it: rows of all tenants, for
    them alone.
    """

    async def forget_events(self, *, made_before: int) -> int:
        """Delete the logs of responses that were made before this time and have ended; return how many
        events.
        """
        ...

    async def forget_uploads(self, *, expired_before: int) -> int:
        """Forget uploads in parts that expired before this time; return how many."""
        ...

    async def forget_keys(self, *, at: int) -> int:
        """Forget the idempotency keys that count as none; return how many."""
        ...


def collectors_of(
    state: RecordGarbageState, files: FileGarbage, stores: VectorGarbage, membership: Membership, clock: Clock
) -> dict[str, Collector]:
    """Return the collectors in the order in which they run."""
    return {
        "expired_files": files.expired,
        "orphaned_blobs": files.loose,
        "uploads": lambda: state.forget_uploads(expired_before=int(clock()) - KEPT_SECONDS),
        "events": lambda: state.forget_events(made_before=int(clock()) - EVENTS_KEPT_SECONDS),
        "expired_stores": stores.expired,
        "orphaned_chunks": stores.loose,
        "unknown_chunks": stores.strays,
        "idempotency_keys": lambda: state.forget_keys(at=int(clock())),
        "interrupted": membership.end_interrupted,
    }
