"""A store of many tenants to search: vectors, stamps, and who asks. Made from a seed, so that every run and
every engine has the same.

The tenants differ in size, as tenants do: one has 2 % of the chunks and one 0.02 %, half of which is for the
board alone; the others share the rest evenly among their staff. Whoever is on the staff of one of the two may
therefore see 1 % or 0.01 % of the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from regate_orchestrator.ports import Chunk
from regate_orchestrator.principal import Principal
from regate_orchestrator.values import FileId, JsonObject

DIMENSIONS: Final = 256
TENANTS: Final = 1_000
CHUNKS_PER_FILE: Final = 10

Vectors: TypeAlias = NDArray[np.float32]
Numbers: TypeAlias = NDArray[np.int64]

_LARGE, _SMALL, _OTHERS = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, which chunks they may see, and whether tenants share with each other for them (which
    lifts the tenant's guard).
    """

    name: str
    principal: Principal
    permitted: Numbers
    across_tenants: bool = False


@dataclass(frozen=True, slots=True)
class Corpus:
    """The chunks' vectors, and which tenant and audience each belongs to."""

    vectors: Vectors
    tenants: Numbers
    for_board: NDArray[np.bool_]
    count: int
    """Of tenants."""

    def chunk(self, number: int) -> Chunk:
        """Return the chunk as it is stored."""
        file = FileId(f"file-{number // CHUNKS_PER_FILE}")
        return Chunk(
            name(number),
            file,
            number % CHUNKS_PER_FILE,
            "text",
            self.vectors[number].tolist(),
            self.stamp(number),
            {},
        )

    def stamp(self, number: int) -> JsonObject:
        """Return the chunk's stamp; every field that the rule reads says something."""
        return {
            "tenant": f"t{self.tenants[number]}",
            "owner": f"u{number % 50}",
            "visibility": "attributes",
            "teams": ["board"] if self.for_board[number] else ["staff"],
            "roles": [],
            "projects": [f"p{number % 20}"],
            "namespaces": [],
            "level": number % 3,
            "labels": ["internal"] if number % 10 == 0 else [],
            "legal_hold": False,
            "embargo_until": 0,
        }

    def askers(self) -> list[Asker]:
        """Return who asks, by how much of the store they may see."""
        return [
            Asker(
                "100 %",
                _who("t0", "staff", "board", "all-hands"),
                np.arange(len(self.vectors)),
                across_tenants=True,
            ),
            Asker("1 %", _who("t0", "staff", "all-hands", "book-club"), self._of_staff(_LARGE)),
            Asker("0.01 %", _who("t1", "staff", "all-hands", "book-club"), self._of_staff(_SMALL)),
        ]

    def member(self, number: int) -> Asker:
        """Return one of the staff of a tenant, counted round all."""
        tenant = number % self.count
        return Asker("a tenant's", _who(f"t{tenant}", "staff"), self._of_staff(tenant))

    def _of_staff(self, tenant: int) -> Numbers:
        return np.flatnonzero((self.tenants == tenant) & ~self.for_board)


def _who(tenant: str, *teams: str) -> Principal:
    return Principal("ann", tenant, teams=teams, roles=("editor",), projects=("apollo",), clearance=2)


def name(number: int) -> str:
    """Return the id of a chunk."""
    return f"c{number:07}"


def make_corpus(chunks: int, *, tenants: int = TENANTS) -> Corpus:
    """Return the corpus of this many chunks of this many tenants."""
    source = np.random.default_rng(3)
    large, small = chunks // 50, chunks // 5_000
    rest = np.arange(chunks - large - small) % (tenants - _OTHERS) + _OTHERS
    owners = np.concatenate([np.full(large, _LARGE), np.full(small, _SMALL), rest])
    for_board = np.concatenate([np.arange(large) % 2, np.arange(small) % 2, np.zeros(len(rest), int)]).astype(
        bool
    )
    order = source.permutation(chunks)
    return Corpus(make_vectors(chunks, seed=1), owners[order], for_board[order], tenants)


def make_vectors(count: int, *, seed: int) -> Vectors:
    """Return unit vectors in 200 clusters, as embeddings of documents are; the seed says where in
    them, never where they are.
    """
    centres = np.random.default_rng(0).normal(size=(200, DIMENSIONS))
    source = np.random.default_rng(seed)
    raw = centres[source.integers(0, len(centres), count)] + 0.6 * source.normal(size=(count, DIMENSIONS))
    return np.asarray(raw / np.linalg.norm(raw, axis=1, keepdims=True), dtype=np.float32)
