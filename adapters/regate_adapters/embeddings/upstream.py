"""An embedder behind an OpenAI-compatible `/embeddings`. Believes nothing of the answer that it has
not checked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import orjson

from regate_adapters.json_endpoint import EndpointFailed, JsonEndpoint, encodable
from regate_adapters.overflow import says_too_long, told_limit
from regate_orchestrator.errors import EmbeddingsUnavailable, TextTooLong
from regate_orchestrator.ports import Vector

_BATCH: Final = 64


class UpstreamEmbedder(JsonEndpoint):
    """Asks an upstream for vectors, 64 texts a call, each call within the deadline. Must be entered
    before use.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        most_tokens: int | None = None,
        deadline_s: float = 30.0,
    ) -> None:
        super().__init__(base_url, "/embeddings", api_key=api_key, deadline_s=deadline_s)
        self._model = model
        self._most_tokens = most_tokens
        self._length: int | None = None

    @property
    def name(self) -> str:
        """Return the name of the model's vector space."""
        return f"upstream:{self._model}"

    async def dimensions(self) -> int:
        """Return the vectors' length, which the first call finds out by asking for one. Raises
        `EmbeddingsUnavailable`.
        """
        if self._length is None:
            await self._ask(["dimensions"])
        assert self._length is not None  # noqa: S101 — INVARIANT: an answer that was accepted has a length
        return self._length

    # Nothing is kept, so nothing is shared
    async def embed(self, texts: Sequence[str], *, tenant: str) -> list[Vector]:  # noqa: ARG002
        """Return one unit-length vector a text.

        Raises `TextTooLong`, and `EmbeddingsUnavailable` for any answer but a complete and well-formed one.
        """
        vectors: list[Vector] = []
        for start in range(0, len(texts), _BATCH):
            vectors += await self._ask(texts[start : start + _BATCH])
        return vectors

    async def _ask(self, texts: Sequence[str]) -> list[Vector]:
        question = {
            "model": self._model,
            "input": [encodable(text) for text in texts],
            "encoding_format": "float",
        }
        try:
            answer = await self.ask(question)
        except EndpointFailed as error:
            # Some servers say so with 500; nothing is quoted back by an API of embeddings that could be taken
            # for it.
            if error.status != 429 and says_too_long(error.words, prose=True):
                raise TextTooLong(self._most_tokens or told_limit(error.words)) from error
            # Its words may quote the text of a document
            raise EmbeddingsUnavailable(f"{self.name}: {error}") from error
        return self._checked(answer, len(texts))

    def _checked(self, answer: bytes, count: int) -> list[Vector]:
        try:
            data = orjson.loads(answer)["data"]
            vectors = _in_order(data, count)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise EmbeddingsUnavailable(
                f"{self.name}: a malformed answer ({type(error).__name__})"
            ) from error
        lengths = {len(vector) for vector in vectors} | (
            {self._length} if self._length is not None else set()
        )
        if len(lengths) != 1 or 0 in lengths:
            raise EmbeddingsUnavailable(f"{self.name}: vectors of lengths {sorted(lengths)}")
        (self._length,) = lengths
        return vectors


def _in_order(data: Sequence[Mapping[str, object]], count: int) -> list[Vector]:
    """Return the vectors in the order of the inputs. Raises `ValueError` unless there is exactly one
    for each.
    """
    vectors = {entry["index"]: _unit(entry["embedding"]) for entry in data}
    if len(data) != count or vectors.keys() != set(range(count)):
        raise ValueError("not one vector for each text")
    return [vectors[index] for index in range(count)]


def _unit(value: object) -> Vector:
    if not isinstance(value, list) or not all(
        isinstance(one, int | float) and not isinstance(one, bool) for one in value
    ):
        raise ValueError("not a list of numbers")
    length = math.hypot(*value)
    if not math.isfinite(length) or length == 0:
        raise ValueError("not a direction")
    return [one / length for one in value]
