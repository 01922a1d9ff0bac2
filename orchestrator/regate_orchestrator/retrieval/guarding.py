"""Hits as far as guards let their texts through. What is blocked is left out, as if it had not been found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.guards.checking import Guards
from regate_orchestrator.lineage import labels_of
from regate_orchestrator.retrieval.admission import Hit
from regate_orchestrator.values import JsonObject


async def guarded_hits(guards: Guards, context: Context, hits: Sequence[Hit]) -> tuple[Hit, ...]:
    """Return the hits, those that are blocked left out, and the others with what may be read of their texts.

    Raises as `Guards.check` does.
    """
    if "chunk" not in guards.steps or not hits:
        return tuple(hits)
    texts = [hit.candidate.text for hit in hits]
    checked = await guards.check(context, "chunk", texts, about=[_about(hit) for hit in hits])
    return tuple(
        replace(hit, candidate=replace(hit.candidate, text=fate.of(text))) if fate.cuts else hit
        for hit, text, fate in zip(hits, texts, checked, strict=True)
        if not fate.is_blocked
    )


def _about(hit: Hit) -> JsonObject:
    labels = sorted(labels_of([hit.source]))
    return {"source": {"store": hit.store_id, "file": hit.candidate.file_id, "labels": labels}}
