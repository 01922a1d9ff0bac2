"""The local embedder: the static word vectors that the `wordllama` distribution carries, averaged. No
network, no GPU, some microseconds.

The distribution is read as data: its weights and its tokenizer's file. Its code is never imported, since it
would reach for a model hub.
"""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from regate_orchestrator.errors import EmbeddingsUnavailable
from regate_orchestrator.ports import Vector

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_DIMENSIONS: Final = 256
_WEIGHTS: Final = Path("weights/l2_supercat_256.safetensors")
_TOKENIZER: Final = Path("tokenizers/l2_supercat_tokenizer_config.json")
_TENSOR: Final = "embedding.weight"
_MAX_HEADER: Final = 1 << 20
_NOWHERE: Final = (1.0, *[0.0] * (_DIMENSIONS - 1))
"""The vector of a text without any token: of unit length like all others, and the same for all such texts."""


@dataclass(frozen=True, slots=True)
class _Model:
    weights: NDArray[np.float16]
    tokenizer: Tokenizer

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        # Unpadded, so that a text's vector never depends on what else is in the batch.
        encoded = self.tokenizer.encode_batch(list(map(_valid, texts)), add_special_tokens=False)
        return [self._mean(encoding.ids) for encoding in encoded]

    def _mean(self, tokens: Sequence[int]) -> Vector:
        if not tokens:
            return _NOWHERE
        known = np.minimum(np.array(tokens, dtype=np.int64), len(self.weights) - 1)
        mean = self.weights[known].astype(np.float64).mean(axis=0)
        length = math.sqrt(float((mean * mean).sum()))
        return _NOWHERE if length == 0 else [float(value) for value in mean / length]


class WordLlamaEmbedder:
    """Embeds with the packaged model, which the first call loads in a thread."""

    def __init__(self) -> None:
        self._model: _Model | None = None
        self._loading = threading.Lock()

    @property
    def name(self) -> str:
        """Return the name of this vector space."""
        return f"wordllama-{_DIMENSIONS}"

    async def dimensions(self) -> int:
        """Return the vectors' length, without loading the model."""
        return _DIMENSIONS

    # Nothing is kept, so nothing is shared
    async def embed(self, texts: Sequence[str], *, tenant: str) -> list[Vector]:  # noqa: ARG002
        """Return one unit-length vector a text. Raises `EmbeddingsUnavailable` when the packaged files
        cannot be read.
        """
        return await asyncio.to_thread(self._embed, texts)

    def _embed(self, texts: Sequence[str]) -> list[Vector]:
        try:
            with self._loading:
                model = self._model = self._model or _load()
            return model.embed(texts)
        except Exception as error:  # the tokenizer raises plain exceptions of its own
            raise EmbeddingsUnavailable(f"wordllama: {type(error).__name__}") from error


def _load() -> _Model:
    from tokenizers import Tokenizer

    folder = _package_folder()
    tokenizer = Tokenizer.from_file(str(folder / _TOKENIZER))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return _Model(_read_weights(folder / _WEIGHTS), tokenizer)


def _package_folder() -> Path:
    spec = find_spec("wordllama")  # finds a top-level package without running it
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the distribution wordllama is not installed")
    return Path(spec.origin).parent


def _read_weights(path: Path) -> NDArray[np.float16]:
    """Return the matrix of a safetensors file: 8 bytes of header length, the header in JSON, then the
    numbers.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _MAX_HEADER:
            raise ValueError("the header is too long")
        entry: dict[str, Any] = json.loads(file.read(length))[_TENSOR]
    rows, columns = entry["shape"]
    if entry["dtype"] != "F16" or columns != _DIMENSIONS:
        raise ValueError("the weights are not 256 half-precision numbers a token")
    weights = np.fromfile(
        path, dtype="<f2", count=rows * columns, offset=8 + length + entry["data_offsets"][0]
    )
    return weights.reshape(rows, columns)


def _valid(text: str) -> str:
    return text.encode(errors="replace").decode()  # a lone surrogate has no UTF-8
