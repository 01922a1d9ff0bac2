"""Vectors in memory that can be compared with a query's, and one way to keep them: a plain matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]
Places: TypeAlias = NDArray[np.int64]

_MOST_GATHERED: Final = 0.3
"""Measured: from about a third of the rows on, computing all similarities is sooner done than picking rows.
"""


class Vectors(Protocol):
    """Vectors of unit length, which never change."""

    @property
    def rows(self) -> Floats:
        """Return all of them, each as it was given."""
        ...

    def similarities(self, places: Places, query: Floats) -> NDArray[np.float64]:
        """Return the cosine similarities of the rows at these places, which ascend, to a query of unit
        length, cut to the range 0 to 1.

        Each must be computed from its own row alone, to the last bit.
        """
        ...


Holding: TypeAlias = Callable[[Floats], Vectors]
"""Makes vectors of these rows."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """Vectors as they are, compared by NumPy."""

    rows: Floats

    def similarities(self, places: Places, query: Floats) -> NDArray[np.float64]:
        """Return the similarities. No product of matrices: it would let the number of rows choose the order
        of summation (a test compares).
        """
        if len(places) > _MOST_GATHERED * len(self.rows):
            found = np.einsum("ij,j->i", self.rows, query)[places]
        else:
            found = np.einsum("ij,j->i", self.rows[places], query)
        return cut(found)


def cut(similarities: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the similarities cut to the range 0 to 1."""
    return np.asarray(np.clip(similarities.astype(np.float64), 0.0, 1.0), dtype=np.float64)
