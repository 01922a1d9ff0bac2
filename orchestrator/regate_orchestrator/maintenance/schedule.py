"""Which collectors a gateway runs, by the names that its log and its metrics give them (docs/operations.md,
What is collected).

Each must cost next to nothing while there is nothing to remove, however much there is, and must keep nobody
waiting for long while there is: tests look at the plan of every statement
(`tests/adapters/state/test_garbage_plans.py`).
"""

from __future__ import annotations

from typing import Final

from regate_orchestrator.documents.upload_parts import KEPT_SECONDS
from regate_orchestrator.maintenance.garbage_collection import Collector, FileGarbage
from regate_orchestrator.maintenance.membership import Membership
from regate_orchestrator.maintenance.vector_garbage import VectorGarbage
from regate_orchestrator.ports import StateStore
from regate_orchestrator.values import Clock

EVENTS_KEPT_SECONDS: Final = 3_600
"""How long the log of a background response can be replayed event by event; after it, the stream is
told again from the Response.
"""

USAGE_KEPT_DAYS: Final = 800
"""How long what was used can be reported: this year and the one before."""
DAY_SECONDS: Final = 86_400


def collectors_of(
    state: StateStore, files: FileGarbage, stores: VectorGarbage, membership: Membership, clock: Clock
) -> dict[str, Collector]:
    """Return the collectors in the order in which they run."""
    return {
        "expired_files": files.expired,
        "orphaned_blobs": files.orphaned,
        "uploads": lambda: state.uploads.forget(expired_before=int(clock()) - KEPT_SECONDS),
        "events": lambda: state.events.forget(made_before=int(clock()) - EVENTS_KEPT_SECONDS),
        "expired_stores": stores.expired,
        "orphaned_chunks": stores.orphaned,
        "unknown_chunks": stores.unknown,
        "idempotency_keys": lambda: state.idempotency_keys.forget(at=int(clock())),
        "approvals": lambda: state.approvals.forget(at=int(clock())),
        "tool_uses": lambda: state.tool_uses.forget(at=int(clock())),
        "usage": lambda: state.usage.forget(before=int(clock()) // DAY_SECONDS - USAGE_KEPT_DAYS),
        "interrupted": membership.end_interrupted,
    }
