"""The last word on the order of hits: by their own scores, or by those of a model that reads query and
passage together. It is shown what is admitted and what guards let through, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from regate_orchestrator.ports import Reranker
from regate_orchestrator.retrieval.admission import Hit
from regate_orchestrator.retrieval.ranking import Ranking


def best_first(hits: Iterable[Hit], ranking: Ranking) -> list[Hit]:
    """Return the hits that reach the threshold, best first; ties are broken by store and chunk id."""
    kept = (hit for hit in hits if hit.candidate.score >= ranking.threshold)
    return sorted(kept, key=lambda hit: (-hit.candidate.score, hit.store_id, hit.candidate.id))


async def reranked(
    reranker: Reranker, hits: Sequence[Hit], queries: Sequence[str], ranking: Ranking, limit: int
) -> tuple[Hit, ...]:
    """Return the best of the hits with the reranker's scores; of several queries, the best score counts.
    Raises `RerankingUnavailable`.
    """
    if not hits:
        return ()
    texts = [hit.candidate.text for hit in hits]
    scored = [await reranker.relevance(query, texts) for query in queries]
    scores = [max(of_hit) for of_hit in zip(*scored, strict=True)]
    anew = [
        replace(hit, candidate=replace(hit.candidate, score=score))
        for hit, score in zip(hits, scores, strict=True)
    ]
    return tuple(best_first(anew, ranking)[:limit])
