"""A guard behind `/moderations` in OpenAI's shape. Its categories are the names of scores, and those that it
flags are labels. It gives no places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from regate_adapters.guards.endpoint import GuardEndpoint, slices
from regate_adapters.json_endpoint import encodable
from regate_orchestrator.ports import Findings, GuardStep

_BATCH: Final = 32


class ModerationGuard:
    """Asks for a few texts at a time."""

    path: ClassVar = "/moderations"

    def __init__(self, endpoint: GuardEndpoint, *, model: str) -> None:
        self._endpoint = endpoint
        self._model = model

    async def look(self, texts: Sequence[str], *, step: GuardStep) -> list[Findings]:  # noqa: ARG002
        """Return the scores and labels of each text. See `ports.GuardProvider`."""
        parts = [(place, part) for place, text in enumerate(texts) for part in slices(text)]
        found: list[list[Findings]] = [[] for _ in texts]
        for start in range(0, len(parts), _BATCH):
            asked = parts[start : start + _BATCH]
            payload = {"model": self._model, "input": [encodable(part) for _, part in asked]}
            answer = await self._endpoint.look(payload)
            results = answer.get("results")
            if not isinstance(results, list) or len(results) != len(asked):
                raise self._endpoint.unusable("not one result for each text")
            for (place, _), result in zip(asked, results, strict=True):
                found[place].append(self._read(result))
        return [_of_parts(parts) for parts in found]

    def _read(self, result: Any) -> Findings:
        scores = result.get("category_scores") if isinstance(result, dict) else None
        flagged = result.get("categories") if isinstance(result, dict) else None
        if not isinstance(scores, Mapping) or not isinstance(flagged, Mapping) or not scores:
            raise self._endpoint.unusable("a result without scores and categories")
        if not all(type(score) in (int, float) and 0 <= score <= 1 for score in scores.values()):
            raise self._endpoint.unusable("a score that is no number from 0 to 1")
        labels = frozenset(str(name) for name, is_flagged in flagged.items() if is_flagged is True)
        return Findings({str(name): float(score) for name, score in scores.items()}, labels)


def _of_parts(parts: Sequence[Findings]) -> Findings:
    """Return what is said of a text by what is said of its parts: the highest of each score."""
    if len(parts) == 1:
        return parts[0]
    names = {name for part in parts for name in part.scores}
    scores = {name: max(part.scores.get(name, 0.0) for part in parts) for name in names}
    return Findings(scores, frozenset().union(*(part.labels for part in parts)))
