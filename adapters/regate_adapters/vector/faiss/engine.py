"""Vectors in a flat index of FAISS, which compares those that are selected and no others."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from regate_adapters.vector.local.partitions import MEMORY, Partitions
from regate_adapters.vector.local.store import TabledVectorStore
from regate_adapters.vector.partition.vectors import Floats, Places, cut
from regate_orchestrator.filters.schema import RowSchema


class FlatIndex:
    """Vectors in an `IndexFlatIP`. It keeps them as they were given and computes every inner product that is
    asked of it: nothing is guessed.
    """

    def __init__(self, rows: Floats) -> None:
        self._index = faiss.IndexFlatIP(rows.shape[1])
        self._index.add(rows)

    @property
    def rows(self) -> Floats:
        """Return the vectors as the index has them, without a copy."""
        index = self._index
        kept: Floats = faiss.rev_swig_ptr(index.get_xb(), index.ntotal * index.d)
        return kept.reshape(index.ntotal, index.d)

    def similarities(self, places: Places, query: Floats) -> NDArray[np.float64]:
        """Return the similarities of the rows that the index selects: those at the places.

        All of them are asked for, not the nearest few: which of those that tie are wanted, and what words add
        to a similarity, is not known here.
        """
        selected = np.zeros(self._index.ntotal, dtype=np.bool_)
        selected[places] = True
        bits = np.packbits(selected, bitorder="little")  # must live as long as FAISS looks at it
        chosen = faiss.SearchParameters()
        chosen.sel = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
        _, products, found = self._index.range_search(query.reshape(1, -1), -np.inf, params=chosen)
        every = np.zeros(self._index.ntotal, dtype=np.float32)
        every[found] = products
        return cut(every[places])


def faiss_store(folder: Path, schema: RowSchema, *, memory: int = MEMORY) -> TabledVectorStore:
    """Return the engine: the local engine's tables, searched in memory with FAISS."""
    partitions = Partitions(schema, memory=memory, holding=FlatIndex)
    return TabledVectorStore(folder, schema, partitions, engine="FAISS")
