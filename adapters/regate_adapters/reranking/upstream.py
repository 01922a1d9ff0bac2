"""A reranker behind `/rerank`, in the shape that Cohere, Jina and vLLM have in common. Believes nothing of
the answer that it has not checked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import orjson

from regate_adapters.json_endpoint import EndpointFailed, JsonEndpoint, encodable
from regate_orchestrator.errors import RerankingUnavailable


class UpstreamReranker(JsonEndpoint):
    """Asks an upstream how well passages answer a query, all of them in one call. Must be entered before
    use.
    """

    def __init__(
        self, base_url: str, model: str, *, api_key: str | None = None, deadline_s: float = 10.0
    ) -> None:
        super().__init__(base_url, "/rerank", api_key=api_key, deadline_s=deadline_s)
        self._model = model

    async def relevance(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return for each text how relevant it is to the query, cut to the range 0 to 1.

        Raises `RerankingUnavailable` for any answer but one finite number a text.
        """
        question = {
            "model": self._model,
            "query": encodable(query),
            "documents": [encodable(text) for text in texts],
            "top_n": len(texts),
            "return_documents": False,
        }
        try:
            answer = await self.ask(question)
            return _in_order(orjson.loads(answer)["results"], len(texts))
        except EndpointFailed as error:  # whose words may quote a passage
            raise RerankingUnavailable(f"{self._model}: {error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise RerankingUnavailable(
                f"{self._model}: a malformed answer ({type(error).__name__})"
            ) from error


def _in_order(results: Sequence[Mapping[str, object]], count: int) -> list[float]:
    """Return the scores in the order of the texts. Raises `ValueError` unless there is exactly one for
    each.
    """
    scores = {entry["index"]: _score(entry["relevance_score"]) for entry in results}
    if len(results) != count or scores.keys() != set(range(count)):
        raise ValueError("not one score for each text")
    return [scores[index] for index in range(count)]


def _score(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("not a finite number")
    return min(max(float(value), 0.0), 1.0)
