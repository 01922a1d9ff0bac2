"""How what is found is ranked, as a search asks for it, and what it is where a search says nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.ports import Fusion, Mode

_EVENLY: Final = Fusion()


@dataclass(frozen=True, slots=True)
class Ranking:
    """How a search wants its hits ranked. Hits that score below `threshold` are left out.

    Without a mode, each store is searched in the best that its engine serves. Without a fusion, the
    deployment's weights count.
    """

    threshold: float = 0.0
    mode: Mode | None = None
    fusion: Fusion | None = None


@dataclass(frozen=True, slots=True)
class RankingDefaults:
    """What counts where a search says nothing: a mode, or the best one there is, and the weights of a hybrid
    search.
    """

    mode: Mode | None = None
    fusion: Fusion = _EVENLY

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

    def fusion_of(self, ranking: Ranking) -> Fusion:
        """Return how a hybrid search makes one score of two."""
        return ranking.fusion or self.fusion


BY_DEFAULT: Final = Ranking()
"""A search that says nothing of its ranking."""
