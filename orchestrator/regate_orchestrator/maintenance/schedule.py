"""Which sweeps a gateway runs, by the names that its log and its metrics give them (docs/operations.md, What is swept).

Each must cost next to nothing while there is nothing to remove, however much there is, and must keep nobody waiting for long while there is:
tests look at the plan of every statement (`tests/adapters/state/test_sweep_plans.py`).
"""

from __future__ import annotations

from typing import Final, Protocol

from regate_orchestrator.documents.upload_parts import KEPT_S
from regate_orchestrator.maintenance.garbage_collection import FileSweeps, Sweep
from regate_orchestrator.maintenance.membership import Presence
from regate_orchestrator.maintenance.vector_garbage import VectorSweeps
from regate_orchestrator.values import Clock

EVENTS_KEPT_S: Final = 3_600
"""How long the log of a background response can be replayed event by event; after it, the stream is told again from the Response."""


class SweptRecords(Protocol):
    """The state store as the sweeps of what is kept for a while need it: rows of all tenants, for them alone."""

    async def forget_events(self, *, made_before: int) -> int:
        """Delete the logs of responses that were made before this time and have ended; return how many events."""
        ...

    async def forget_uploads(self, *, expired_before: int) -> int:
        """Forget uploads in parts that expired before this time; return how many."""
        ...

    async def forget_keys(self, *, at: int) -> int:
        """Forget the idempotency keys that count as none; return how many."""
        ...


def sweeps_of(state: SweptRecords, files: FileSweeps, stores: VectorSweeps, presence: Presence, clock: Clock) -> dict[str, Sweep]:
    """Return the sweeps in the order in which they run."""
    return {
        "expired_files": files.expired,
        "loose_blobs": files.loose,
        "uploads": lambda: state.forget_uploads(expired_before=int(clock()) - KEPT_S),
        "events": lambda: state.forget_events(made_before=int(clock()) - EVENTS_KEPT_S),
        "expired_stores": stores.expired,
        "loose_chunks": stores.loose,
        "stray_chunks": stores.strays,
        "idempotency_keys": lambda: state.forget_keys(at=int(clock())),
        "interrupted": presence.end_interrupted,
    }
