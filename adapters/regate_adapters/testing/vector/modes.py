"""What a vector store promises about the modes of search. A part of the suite."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, get_args

from regate_adapters.testing.conformance import expect
from regate_adapters.testing.vector.corpus import DIMENSIONS, QUERY, hostile_chunks
from regate_orchestrator.errors import VectorStoreUnavailable
from regate_orchestrator.filters.expression import Everything
from regate_orchestrator.ports import Mode, Query, VectorStore
from regate_orchestrator.values import StoreId

_STORE: Final = StoreId("vs_modes")


async def _a_mode_is_served_or_refused_by_its_name(store: VectorStore) -> None:
    await store.create(_STORE, dimensions=DIMENSIONS)
    await store.add(_STORE, hostile_chunks(count=3))
    for mode in get_args(Mode):
        if (said := await _refusal(store, mode)) is not None:
            expect(f"{mode} is served, or refused by its name", expected=True, actual=mode in said)
    expect("the mode vector is served", expected=None, actual=await _refusal(store, "vector"))


async def _refusal(store: VectorStore, mode: Mode) -> str | None:
    try:
        await store.search(_STORE, Query(QUERY, limit=1, text="lighthouse", mode=mode), plan=Everything())
    except VectorStoreUnavailable as error:
        return error.detail
    return None


MODE_CHECKS: Final[tuple[Callable[[VectorStore], Awaitable[None]], ...]] = (
    _a_mode_is_served_or_refused_by_its_name,
)
