"""Admission: of the chunks that a store returned, those that are live and that the policy admits, each
decided (I9). What the filter permitted and the decision denies is counted, and told apart from what is no
fault (I4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from regate_orchestrator.authz.batches import Batch
from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.authz.plan_records import describe
from regate_orchestrator.documents.generations import generation_of
from regate_orchestrator.filters.expression import FilterPlan, Scalar
from regate_orchestrator.lineage import ChunkSource
from regate_orchestrator.metrics import Metrics
from regate_orchestrator.ports import Candidate, Found, StateStore
from regate_orchestrator.retrieval.spans import tell_candidates
from regate_orchestrator.retrieval.stores import OpenStore
from regate_orchestrator.rows import LiveFile
from regate_orchestrator.values import FileId, JsonObject, StoreId


@dataclass(frozen=True, slots=True)
class Hit:
    """An admitted chunk, with the name its file is cited by and the store it came from."""

    store_id: StoreId
    filename: str
    candidate: Candidate

    @property
    def source(self) -> ChunkSource:
        """Return the source of whatever is made from this chunk."""
        return ChunkSource(self.store_id, self.candidate.file_id, self.candidate.id, self.candidate.stamp)


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """How one store is searched: the plan with the guard inside, and whether the policy's part of it
    is left to the post-check alone.
    """

    plan: FilterPlan
    post_filtered: bool
    note: JsonObject
    revision: str = ""
    """Of the policy that the plan was made by; unknown where it is gated."""
    now: int = 0
    """The time that the plan was made for."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """What was admitted of some candidates. `superseded` says that a file was found under another generation
    than the one that counts, and under no other.

    So it is when it was stamped anew, or attached again, between the search and the look at what is live:
    then the search is out of date.
    """

    hits: tuple[Hit, ...]
    superseded: bool


class Admission:
    """Decides what was found. Nothing looks at a candidate before."""

    def __init__(self, enforcer: Enforcer, state: StateStore, metrics: Metrics) -> None:
        self._enforcer = enforcer
        self._state = state
        self._counted = metrics.counter(
            "regate_retrieval_candidates",
            "Chunks that vector stores returned.",
            ("outcome",),
            rows=[("admitted",), ("denied",), ("gone",)],
        )
        self.mismatches = 0
        """Chunks that the filter admitted and the post-check denied, by one policy at one time (I4):
        must stay 0.
        """

    async def admit(
        self, context: Context, store: OpenStore, found: Found, search_plan: SearchPlan
    ) -> Admitted:
        """Return the candidates that are live and admitted. One batch decides them; nothing looks at a
        candidate before (I9).

        A chunk is live while its file is attached, and it is of the generation that counts and carries the
        very stamp of record: a chunk of a detached file, of an old backup, of an unfinished ingest or of a
        stamp since replaced is gone.
        """
        principal = context.principal
        live = await self._state.attachments.live(
            principal, [(store.row.id, candidate.file_id) for candidate in found.candidates]
        )
        present = [one for one in found.candidates if _is_live(one, live.get((store.row.id, one.file_id)))]
        batch = Batch(
            stores={store.row.id: store.view}, chunks=[(store.row.id, one.stamp) for one in present]
        )
        notes: JsonObject = {"retrieval": _noted(store, search_plan, found, present)}
        admitted = await self._enforcer.admit(context, "chunk.read", batch, notes=notes)
        passed = [
            candidate
            for position, candidate in enumerate(present)
            if position in admitted.chunks and candidate.stamp.get("tenant") == principal.tenant
        ]
        kept = {candidate.id for candidate in passed}
        denied = [candidate for candidate in present if candidate.id not in kept]
        self._counted.add("admitted", count=len(passed))
        self._counted.add("denied", count=len(denied))
        self._counted.add("gone", count=len(found.candidates) - len(present))
        if context.span is not None:
            tell_candidates(
                context.span, found=len(found.candidates), live=len(present), admitted=len(passed)
            )
        if denied:
            await self._report(context, store, denied, search_plan, admitted.revision)
        hits = [Hit(store.row.id, live[store.row.id, one.file_id].filename, one) for one in passed]
        generations = {file: row.generation for (_, file), row in live.items()}
        return Admitted(tuple(hits), superseded=_is_superseded(found.candidates, present, generations))

    async def _report(
        self,
        context: Context,
        store: OpenStore,
        denied: Sequence[Candidate],
        search_plan: SearchPlan,
        revision: str,
    ) -> None:
        """Count and record what the filter permitted and the decision denied."""
        mismatched = await self._mismatched(context, store, denied, search_plan, revision)
        self.mismatches += mismatched
        chunks = [candidate.id for candidate in denied]
        notes: JsonObject = {"kind": "denied", "alert": mismatched > 0, "chunks": chunks}
        await self._enforcer.record(context, "chunk.denied", notes)

    async def _mismatched(
        self,
        context: Context,
        store: OpenStore,
        denied: Sequence[Candidate],
        search_plan: SearchPlan,
        revision: str,
    ) -> int:
        """Return how many of these the filter should have left out (I4).

        Those are another tenant's, and what the policy that made the plan denies at the very time the plan
        was made for. The others are no fault: the policy changed in mid-search, or a time that a rule
        compares with has come since.
        """
        own = [candidate for candidate in denied if candidate.stamp.get("tenant") == context.principal.tenant]
        foreign = len(denied) - len(own)
        if search_plan.post_filtered or search_plan.revision != revision or not own:
            return foreign
        batch = Batch(
            stores={store.row.id: store.view}, chunks=[(store.row.id, candidate.stamp) for candidate in own]
        )
        then = await self._enforcer.admitted_at(context, batch, now=search_plan.now)
        return foreign if then.revision != revision else foreign + len(own) - len(then.chunks)


def _noted(
    store: OpenStore, search_plan: SearchPlan, found: Found, present: Sequence[Candidate]
) -> JsonObject:
    return {
        "store": store.row.id,
        "plan": describe(search_plan.plan),
        "compiled": search_plan.note,
        "gated": search_plan.post_filtered,
        "total": found.total,
        "permitted": found.permitted,
        "returned": len(found.candidates),
        "gone": len(found.candidates) - len(present),
        "chunks": [candidate.id for candidate in present],
    }


def _is_superseded(
    candidates: Sequence[Candidate], present: Sequence[Candidate], generations: Mapping[FileId, str]
) -> bool:
    """Return whether a live file was found under other generations than the one that counts, and under
    no other.
    """
    current = {candidate.file_id for candidate in present}
    others = (one for one in candidates if one.file_id not in current)
    return any(generations.get(one.file_id, generation_of(one.id)) != generation_of(one.id) for one in others)


def _is_live(candidate: Candidate, file: LiveFile | None) -> bool:
    return (
        file is not None
        and generation_of(candidate.id) == file.generation
        and dict(candidate.stamp) == dict(file.stamp)
    )


def hit_attributes(hit: Hit) -> dict[str, Scalar]:
    """Return the attributes to show with a hit: the client's own, never the stamp."""
    return dict(hit.candidate.attributes)
