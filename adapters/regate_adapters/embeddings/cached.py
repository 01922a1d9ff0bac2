"""A bounded cache before an embedder. Keyed by tenant, so that nobody learns from its speed what another
tenant has embedded.

Texts are not kept, only their digests.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, TypeAlias

from regate_orchestrator.ports import Embedder, Vector

_Key: TypeAlias = tuple[str, str, bytes]

_ENTRIES: Final = 10_000
_MAX_BYTES: Final = 32 * 1024 * 1024


class CachedEmbedder:
    """Keeps the vectors of the texts used last, by (tenant, model, SHA-256 of the text); `entries=0`
    keeps none.
    """

    def __init__(self, inner: Embedder, *, entries: int = _ENTRIES, most_bytes: int = _MAX_BYTES) -> None:
        self._inner = inner
        self._entries = entries
        self._most_bytes = most_bytes
        self._kept: OrderedDict[_Key, array[float]] = OrderedDict()
        self._bytes = 0

    @property
    def name(self) -> str:
        """Return the inner embedder's name: a cache is no vector space of its own."""
        return self._inner.name

    async def dimensions(self) -> int:
        """Return the inner embedder's dimensions."""
        return await self._inner.dimensions()

    async def embed(self, texts: Sequence[str], *, tenant: str) -> list[Vector]:
        """Return one vector a text, asking the inner embedder once for each distinct text that is
        not kept.
        """
        keys = [
            (tenant, self._inner.name, hashlib.sha256(text.encode(errors="surrogatepass")).digest())
            for text in texts
        ]
        known = {key: vector for key in keys if (vector := self._recall(key)) is not None}
        asked = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if asked:
            made = await self._inner.embed(list(asked.values()), tenant=tenant)
            for key, values in zip(asked, made, strict=True):
                known[key] = array("d", values)
                self._keep(key, known[key])
        return [known[key].tolist() for key in keys]

    def _recall(self, key: _Key) -> array[float] | None:
        vector = self._kept.get(key)
        if vector is not None:
            self._kept.move_to_end(key)
        return vector

    def _keep(self, key: _Key, vector: array[float]) -> None:
        if key not in self._kept:
            self._bytes += _size(vector)
            self._kept[key] = vector
        while self._kept and (len(self._kept) > self._entries or self._bytes > self._most_bytes):
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= _size(oldest)


def _size(vector: array[float]) -> int:
    return 256 + vector.itemsize * len(vector)  # the key, the entry and the array's own head, about
