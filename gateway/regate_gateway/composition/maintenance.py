"""What a gateway does by itself: being present, ending what was interrupted, and collecting garbage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from regate_gateway.composition.decisions import Decisions
from regate_gateway.composition.stores import Stores
from regate_orchestrator.maintenance.garbage_collection import FileGarbage, GarbageCollector
from regate_orchestrator.maintenance.membership import Membership
from regate_orchestrator.maintenance.schedule import collectors_of
from regate_orchestrator.maintenance.vector_garbage import VectorGarbage
from regate_orchestrator.values import Clock


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often a gateway does what it does by itself, in seconds. Its presence is renewed several
    times within `lease_s`.
    """

    lease_s: int = 60
    renew_s: float = 15.0
    sweep_s: float = 60.0


USUAL_RHYTHM: Final = Rhythm()


@dataclass(frozen=True, slots=True)
class Maintenance:
    """The parts that work in the background for as long as a gateway is there."""

    membership: Membership
    garbage_collector: GarbageCollector
    vector_garbage: VectorGarbage


def make_maintenance(decisions: Decisions, stores: Stores, clock: Clock, rhythm: Rhythm) -> Maintenance:
    """Return what works in the background."""
    state, vectors, audit = stores.state, stores.vectors, decisions.audit
    membership = Membership(state.membership, lease_s=rhythm.lease_s, renew_s=rhythm.renew_s)
    files = FileGarbage(
        files=state.files,
        orphaned_blobs=state.orphaned_blobs,
        blobs=stores.blobs,
        vectors=vectors,
        audit=audit,
    )
    chunks = VectorGarbage(
        stores=state.vector_stores,
        orphaned_chunks=state.orphaned_chunks,
        vectors=vectors,
        audit=audit,
        clock=clock,
    )
    collectors = collectors_of(state, files, chunks, membership, clock)
    return Maintenance(membership, GarbageCollector(collectors, every_s=rhythm.sweep_s), chunks)
