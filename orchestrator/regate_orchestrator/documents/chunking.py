"""How files are split into chunks: as the client says, or by default as fits the embedding model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_USUAL: Final = 800


@dataclass(frozen=True, slots=True)
class Chunking:
    """The size of chunks in tokens. The overlap is at most half of it (OpenAI, "chunking_strategy")."""

    max_tokens: int = _USUAL
    overlap_tokens: int = _USUAL // 2


def default_chunking(limit: int | None) -> Chunking:
    """Return OpenAI's default, or smaller chunks for a model that takes no more tokens than `limit`.

    A quarter is left free: the model's tokenizer is not the one by which text is split, and counts more in
    most languages.
    """
    size = _USUAL if limit is None else min(_USUAL, limit * 3 // 4)
    return Chunking(size, size // 2)
