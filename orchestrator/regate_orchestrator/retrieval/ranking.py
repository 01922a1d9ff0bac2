"""How what is found is ranked, as a search asks for it, and what it is where a search says nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.ports import Fusion, Mode, Reranker

NO_RANKER: Final = "none"
_EVENLY: Final = Fusion()


@dataclass(frozen=True, slots=True)
class Ranking:
    """How a search wants its hits ranked. Hits that score below `threshold` are left out.

    Without a mode, each store is searched in the best that its engine serves. Without a fusion, the
    deployment's weights count. `ranker` names a reranker; `NO_RANKER` is none, and without one the
    deployment's counts.
    """

    threshold: float = 0.0
    mode: Mode | None = None
    fusion: Fusion | None = None
    ranker: str | None = None


@dataclass(frozen=True, slots=True)
class Ranker:
    """A reranker, and how many of the best passages it is shown, or as many as a search wants."""

    reranker: Reranker
    passages: int


@dataclass(frozen=True, slots=True)
class RankingDefaults:
    """What counts where a search says nothing: a mode, or the best one there is, the weights of a hybrid
    search, and the name of a reranker, if there is one for all. `rankers` has those that a search may name.
    """

    mode: Mode | None = None
    fusion: Fusion = _EVENLY
    ranker: str | None = None
    rankers: Mapping[str, Ranker] = field(default_factory=dict)

    def mode_of(self, ranking: Ranking, served: frozenset[Mode]) -> Mode:
        """Return in which mode a store is searched whose engine serves these. Raises `InvalidRequest` for one
        that is asked for and not served.
        """
        if ranking.mode is None:
            wanted = self.mode or "hybrid"
            return wanted if wanted in served else "vector"
        if ranking.mode not in served:
            modes = ", ".join(sorted(served))
            raise InvalidRequest(
                f"A vector store that is searched has no mode '{ranking.mode}'. It has: {modes}.",
                code="search_mode_not_supported",
                param="search_mode",
            )
        return ranking.mode

    def ranker_of(self, ranking: Ranking) -> Ranker | None:
        """Return the reranker of a search, if it has one. Raises `InvalidRequest` for one that there is
        not.
        """
        name = self.ranker if ranking.ranker is None else ranking.ranker
        if name is None or name == NO_RANKER:
            return None
        if name not in self.rankers:
            names = ", ".join(map(repr, sorted({"auto", NO_RANKER, *self.rankers})))
            raise InvalidRequest(
                f"There is no such ranker here. Use one of: {names}.", param="ranking_options.ranker"
            )
        return self.rankers[name]

    def fusion_of(self, ranking: Ranking) -> Fusion:
        """Return how a hybrid search makes one score of two."""
        return ranking.fusion or self.fusion


BY_DEFAULT: Final = Ranking()
"""A search that says nothing of its ranking."""
