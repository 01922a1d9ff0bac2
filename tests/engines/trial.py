"""One engine on trial: the conformance suite on it, with and without words beside it, and how long a search
takes alone and beside others. `__main__.py`, the counterpart, tries all of them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from regate_adapters.testing.vector.corpus import DIMENSIONS, QUERY
from regate_adapters.testing.vector.suite import SCHEMA, Check, hostile_chunks, vector_store_conformance
from regate_adapters.vector.memory.store import MemoryVectorStore
from regate_adapters.vector.worded.store import WordedVectorStore
from regate_orchestrator.filters.expression import Compare, Matching
from regate_orchestrator.ports import Mode, Query, VectorStore
from regate_orchestrator.values import StoreId

_TIMED: Final = StoreId("vs_timed")
_OURS: Final = 200
_FOREIGN: Final = 4_000
_AT_ONCE: Final = 500
_SEARCHES: Final = 15
_OF_WORDS: Final = ("mode", "words", "hybrid", "foreign", "others")


@dataclass
class Trial:
    """What came of it."""

    kind: str
    modes: frozenset[Mode] = frozenset()
    passed: int = 0
    failed: list[str] = field(default_factory=list)
    alone_ms: float = 0.0
    beside_ms: float = 0.0


class _Noting:
    """A store that notes which places were made, so that they can be dropped after each check."""

    def __init__(self, store: VectorStore) -> None:
        self._store = store
        self.made: set[StoreId] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def create(self, store: StoreId, *, dimensions: int) -> None:
        self.made.add(store)
        await self._store.create(store, dimensions=dimensions)


async def tried(kind: str, store: VectorStore, exempt: dict[Any, str], tell: Callable[[str], None]) -> Trial:
    """Return what came of all checks on this empty store, and then on it with words beside it if it has
    none.
    """
    trial = Trial(kind, await store.modes(_TIMED))
    await _check(trial, store, vector_store_conformance(), exempt, tell)
    if "hybrid" not in trial.modes:
        both = WordedVectorStore(store, MemoryVectorStore(SCHEMA))
        checks = [one for one in vector_store_conformance() if any(word in one.name for word in _OF_WORDS)]
        await _check(trial, both, checks, exempt, tell)
    trial.alone_ms, trial.beside_ms = await _timed(store)
    return trial


async def _check(
    trial: Trial,
    store: VectorStore,
    checks: Sequence[Check],
    exempt: dict[Any, str],
    tell: Callable[[str], None],
) -> None:
    for check in checks:
        noting: Any = _Noting(store)
        try:
            await check(noting, exempt=exempt)
            trial.passed += 1
        except Exception as error:
            trial.failed.append(f"{check}: {type(error).__name__}: {error}"[:300])
        for place in noting.made:
            await store.drop(place)
        tell(f"{trial.kind}: {check}")


async def _timed(store: VectorStore) -> tuple[float, float]:
    """Return how long a tenant's search takes in its own store, and beside twenty times as many of others."""
    ours = [_of(one, "acme") for one in hostile_chunks(count=_OURS)]
    plan = Matching(Compare("eq", ("tenant",), "acme"))
    await store.create(_TIMED, dimensions=DIMENSIONS)
    await store.add(_TIMED, ours)
    times = []
    for beside in (False, True):
        if beside:
            foreign = [_of(one, f"t{number % 50}") for number, one in enumerate(_many(_FOREIGN))]
            for start in range(0, len(foreign), _AT_ONCE):
                await store.add(_TIMED, foreign[start : start + _AT_ONCE])
        taken = []
        for _ in range(_SEARCHES):
            began = time.perf_counter()
            await store.search(_TIMED, Query(QUERY, 10), plan=plan)
            taken.append((time.perf_counter() - began) * 1_000)
        times.append(statistics.median(taken))
    await store.drop(_TIMED)
    return times[0], times[1]


def _many(count: int) -> list[Any]:
    return hostile_chunks(tenant="others", count=count)


def _of(chunk: Any, tenant: str) -> Any:
    return replace(chunk, stamp={**chunk.stamp, "tenant": tenant})
