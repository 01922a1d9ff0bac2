"""What the suite asks of a store for clients' filters: every one within the limits of `filters/client.py` is
taken, the largest too.

A filter that a client may send must never be refused as if the policy could not be expressed. Its counterpart
is `suite.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from regate_adapters.testing.conformance import ConformanceFailure, expect
from regate_adapters.testing.vector.corpus import DIMENSIONS, QUERY, SCHEMA, hostile_chunks
from regate_orchestrator.errors import FilterNotExpressible
from regate_orchestrator.filters.attribute_keys import LONGEST
from regate_orchestrator.filters.client import DEEPEST, MAX_LISTED, MAX_PARTS, MAX_VALUES, read_client_filter
from regate_orchestrator.filters.evaluate import holds
from regate_orchestrator.filters.expression import Compare, Expression, Matching, Not, Or, Overlaps, narrow
from regate_orchestrator.ports import Query, VectorStore
from regate_orchestrator.values import StoreId

_STORE: Final = StoreId("vs_conformance_clients")
_POLICY: Final[Expression] = Or(
    (
        Overlaps(("teams",), ("hr", "eng")),
        Not(Compare("gt", ("level",), 1)),
        Compare("eq", ("owner",), "acme"),
    )
)
_MIXED: Final = ("red", 1, True, 2.5, False)


def _largest_filters() -> Iterator[tuple[str, Any]]:
    """Yield the largest filters of each shape that a client may send."""
    keys = ("colour", "size", "author name")
    leaves = MAX_PARTS - 1
    for join in ("and", "or"):
        for kind in ("lte", "gt"):
            parts: list[Any] = [
                {"type": kind, "key": keys[index % 3], "value": index - 100} for index in range(leaves)
            ]
            yield f"{join} of {kind}", {"type": join, "filters": parts}
        for kind in ("in", "nin"):
            parts = [{"type": kind, "key": f"k{index}", "value": list(_MIXED)} for index in range(leaves)]
            yield f"{join} of mixed {kind}", {"type": join, "filters": parts}
            lists = MAX_LISTED // MAX_VALUES
            parts = [
                {
                    "type": kind,
                    "key": f"k{index}",
                    "value": [f"{number:x<{LONGEST}}" for number in range(MAX_VALUES)],
                }
                for index in range(lists)
            ]
            yield f"{join} of long {kind}", {"type": join, "filters": parts}
        yield f"a deep {join}", _deep(join)


def _deep(join: str) -> Any:
    """Return a filter as deep as may be, its parts spread over all levels, which change between `and`
    and `or`.
    """
    width = (MAX_PARTS - DEEPEST) // (DEEPEST - 1)
    value: Any = {"type": "ne", "key": "colour", "value": "red"}
    for level in range(DEEPEST - 1):
        join = "or" if join == "and" else "and"
        beside = [
            {"type": ("ne", "eq", "lt")[index % 3], "key": f"k{index}", "value": level}
            for index in range(width)
        ]
        value = {"type": join, "filters": [value, *beside]}
    return value


async def _the_largest_filters_of_clients_are_taken(store: VectorStore) -> None:
    chunks = hostile_chunks()
    await store.create(_STORE, dimensions=DIMENSIONS)
    await store.add(_STORE, chunks)
    for name, sent in _largest_filters():
        plan = narrow(Matching(_POLICY), read_client_filter(sent), Compare("eq", ("tenant",), "acme"))
        if not isinstance(plan, Matching):
            raise ConformanceFailure(f"{name}: nothing is left to ask")
        try:
            found = await store.search(_STORE, Query(QUERY, limit=len(chunks)), plan=plan)
        except FilterNotExpressible as refusal:
            raise ConformanceFailure(
                f"{name}: a filter that a client may send was refused: {refusal.detail}"
            ) from refusal
        rows = {
            chunk.id: {**SCHEMA.canonical(chunk.stamp), "attributes": dict(chunk.attributes)}
            for chunk in chunks
        }
        expected = sorted(identifier for identifier, row in rows.items() if holds(plan.expression, row))
        expect(name, expected=expected, actual=sorted(one.id for one in found.candidates))


CLIENT_CHECKS: Final = (_the_largest_filters_of_clients_are_taken,)
