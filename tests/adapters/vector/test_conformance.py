"""Both stores of ours keep the contract; and the suite that says so can fail."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from regate_adapters.testing.vector.suite import (
    SCHEMA,
    Check,
    ConformanceFailure,
    vector_store_conformance,
)
from regate_adapters.vector.chroma.kind import Chroma
from regate_adapters.vector.chroma.store import ChromaVectorStore
from regate_adapters.vector.memory.store import MemoryVectorStore
from regate_orchestrator.filters.expression import Everything, FilterPlan, Not, expression_of, plan_of
from regate_orchestrator.ports import Chunk, Found, Query, VectorStore
from regate_orchestrator.values import StoreId

CHECKS = vector_store_conformance()


@pytest.mark.parametrize("check", CHECKS, ids=str)
async def test_memory_keeps_the_contract_without_exemption(check: Check) -> None:
    await check(MemoryVectorStore(SCHEMA), exempt={})


@pytest.mark.parametrize("check", CHECKS, ids=str)
async def test_chroma_keeps_the_contract(check: Check, chroma: ChromaVectorStore) -> None:
    await check(chroma, exempt=Chroma.refuses)


# An approximate index cannot promise the last one, which is why exact search is the default. The atoms take
# long, and are filters alike.
@pytest.mark.parametrize(
    "check", [check for check in CHECKS if "atom" not in str(check) and "foreign" not in str(check)], ids=str
)
async def test_chroma_keeps_the_contract_when_its_index_chooses_the_candidates(
    check: Check, tmp_path: Path
) -> None:
    async with ChromaVectorStore(tmp_path, SCHEMA, exact_up_to=0) as store:
        await check(store, exempt=Chroma.refuses)


def test_the_suite_is_not_empty() -> None:
    assert len(CHECKS) == len({str(check) for check in CHECKS}) >= 18


class Widening(MemoryVectorStore):
    """A store that drops the filter."""

    async def search(self, store: StoreId, query: Query, *, plan: FilterPlan) -> Found:
        return await super().search(store, query, plan=Everything())


class Complementing(MemoryVectorStore):
    """A store that takes a double negation for a single one."""

    async def search(self, store: StoreId, query: Query, *, plan: FilterPlan) -> Found:
        expression = expression_of(plan)
        return await super().search(
            store, query, plan=plan_of(Not(expression) if isinstance(expression, Not) else expression)
        )


class Ignoring(MemoryVectorStore):
    """A store that ignores a chunk whose id it knows, as Chroma's `add` does."""

    async def add(self, store: StoreId, chunks: Sequence[Chunk]) -> None:
        known = self._stores[store].chunks
        await super().add(store, [chunk for chunk in chunks if chunk.id not in known])


@pytest.mark.parametrize(
    ("broken", "caught"),
    [
        (Widening, "everything_is_every_chunk_and_nothing_is_none"),
        (Widening, "nothing_does_no_io"),
        (Widening, "foreign_chunks_change_nothing_that_is_seen"),
        (Complementing, "every_atom_and_its_complement_finds_what_it_means"),
        (Complementing, "random_expressions_find_what_they_mean"),
        (Ignoring, "a_chunk_is_replaced_whole_and_never_merged"),
    ],
)
async def test_a_broken_store_is_caught(broken: type[MemoryVectorStore], caught: str) -> None:
    (check,) = [check for check in CHECKS if str(check) == caught]
    store: VectorStore = broken(SCHEMA)

    with pytest.raises(ConformanceFailure):
        await check(store, exempt={})


async def test_an_exemption_that_is_not_needed_is_refused() -> None:
    (check,) = [check for check in CHECKS if "atom" in str(check)]

    with pytest.raises(ConformanceFailure, match="exempt as 'text', yet answered"):
        await check(MemoryVectorStore(SCHEMA), exempt={"text": "not so"})
