"""Engines of marked rows, on the smallest one: the filter as conditions on marks, and a ranking that is
exact whatever the engine proposes first.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.adapters.vector.marked_memory import MemoryEngine

from regate_adapters.testing.vector.suite import SCHEMA, Check, hostile_chunks, vector_store_conformance
from regate_adapters.vector.kind import MARKED_REFUSES
from regate_adapters.vector.marked.filter import Limits, render
from regate_adapters.vector.marked.marks import MarkedField, Marking, ordered_digits
from regate_adapters.vector.marked.store import MarkedVectorStore
from regate_adapters.vector.marked.tree import All, Has, Lacks, Some, Tree, all_of, any_of, complement
from regate_orchestrator.errors import ConfigurationError, FilterNotExpressible
from regate_orchestrator.filters.expression import (
    NEVER,
    And,
    Compare,
    CompareFields,
    Everything,
    Expression,
    In,
    Matching,
    Not,
    Or,
    Ordered,
    Overlaps,
    Text,
    plan_of,
)
from regate_orchestrator.filters.schema import FieldSpec, RowSchema
from regate_orchestrator.ports import Chunk, Query
from regate_orchestrator.values import FileId, StoreId

MARKING = Marking.of(SCHEMA)
LEVEL = MarkedField("level", ("number",), required=True)
NUMBERS = st.one_of(st.integers(-(2**53), 2**53).map(float), st.floats(-(2.0**53), 2.0**53, allow_nan=False))


@pytest.mark.parametrize("check", vector_store_conformance(), ids=str)
async def test_marked_rows_keep_the_contract(check: Check) -> None:
    await check(MarkedVectorStore(MemoryEngine(), SCHEMA, shared=False), exempt=MARKED_REFUSES)


@given(NUMBERS, NUMBERS)
def test_digits_are_in_the_order_of_numbers(one: float, other: float) -> None:
    assert (ordered_digits(one) < ordered_digits(other)) == (one < other)
    assert (ordered_digits(one) == ordered_digits(other)) == (one == other)


@given(NUMBERS, NUMBERS, st.booleans(), st.booleans())
def test_a_range_has_the_marks_of_the_numbers_in_it(
    value: float, bound: float, above: bool, inclusive: bool
) -> None:
    wanted = LEVEL.beyond(bound, above=above, inclusive=inclusive)
    is_within = (value > bound if above else value < bound) or (inclusive and value == bound)

    assert set(LEVEL.marks_of(value)).isdisjoint(wanted) is not is_within
    assert len(wanted) <= 241


@pytest.mark.parametrize(
    ("expression", "tree"),
    [
        (Compare("eq", ("tenant",), "acme"), Has(("tenant=s:acme",))),
        (Compare("ne", ("tenant",), "acme"), Lacks(("tenant=s:acme",))),
        (Compare("ne", ("region",), "eu"), All((Has(("region:string",)), Lacks(("region=s:eu",))))),
        (Not(Compare("eq", ("region",), "eu")), Lacks(("region=s:eu",))),
        (Compare("eq", ("public",), True), Has(("public=b:true",))),
        (Compare("lt", ("public",), "a"), Has(("public:boolean",))),
        (In(("owner",), ("ann", 1)), Has(("owner=s:ann",))),
        (Overlaps(("teams",), ("hr", "eng", 1)), Has(("teams@s:hr", "teams@s:eng"))),
        (Compare("eq", ("attributes", "size"), 1), Has(("attributes.size/bff0000000000000",))),
    ],
)
def test_the_filter_in_marks(expression: Expression, tree: Tree) -> None:
    found = render(Matching(expression), MARKING)

    assert found == all_of([Has((MARKING.version,)), tree])


def test_nothing_and_everything() -> None:
    assert render(plan_of(NEVER), MARKING) is False
    assert render(Everything(), MARKING) == Has((MARKING.version,))
    assert render(Matching(Compare("eq", ("undeclared",), 1)), MARKING) is False


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        (Text("startswith", ("owner",), "a"), "no string predicates"),
        (Compare("lt", ("owner",), "a"), "cannot be ordered"),
        (CompareFields("eq", ("owner",), ("tenant",)), "two fields"),
        (Ordered("lt", ("level",), 2**53 + 2), "beyond 2"),
        (Compare("eq", ("level",), float("nan")), "beyond 2"),
        (Overlaps(("teams",), tuple(map(str, range(50_001)))), "50002 values"),
    ],
)
def test_what_has_no_exact_form_is_refused(expression: Expression, why: str) -> None:
    with pytest.raises(FilterNotExpressible) as refused:
        render(Matching(expression), MARKING)

    assert why in (refused.value.detail or "")


def test_a_tree_has_one_list_for_what_one_list_can_say() -> None:
    one, two, three = Has(("a",)), Has(("b",)), Lacks(("c",))

    assert any_of([one, two, three]) == Some((Has(("a", "b")), three))
    assert all_of([complement(one), three, two]) == All((two, Lacks(("a", "c"))))
    assert complement(All((one, three))) == Some((Has(("c",)), Lacks(("a",))))
    assert (any_of([]), all_of([]), any_of([True, one]), all_of([False, one])) == (False, True, True, False)


def test_long_and_odd_values_stand_as_their_digests() -> None:
    field = MarkedField("owner", ("string",), required=True)
    marks = [
        field.equal(value) for value in ("a\x00b", "o'neil", "\u00e9", "e\u0301", "x" * 49, "\ud800", "#")
    ]

    assert len(set(marks)) == len(marks)
    assert all(mark.isascii() and mark.startswith("owner=s:#") and len(mark) < 60 for mark in marks)


def test_a_field_that_marks_cannot_name_is_refused() -> None:
    schema = RowSchema("chunk", {"a.b": FieldSpec("a.b", "string", required=True)})

    with pytest.raises(ConfigurationError, match=r"rego/schemas/chunk.json: the field name 'a.b'"):
        Marking.of(schema)


async def test_more_is_asked_for_while_an_equal_might_be_left_out() -> None:
    engine, store = MemoryEngine(), StoreId("vs_1")
    vectors = MarkedVectorStore(engine, SCHEMA, shared=False)
    (chunk,) = hostile_chunks(count=1)
    twins = [
        Chunk(f"acme/file-1/{number:06d}", FileId("file-1"), number, "", chunk.vector, chunk.stamp, {})
        for number in reversed(range(100))
    ]
    await vectors.create(store, dimensions=len(chunk.vector))
    await vectors.add(store, twins)
    found = await vectors.search(store, Query(chunk.vector, limit=3), plan=Everything())

    assert [one.index for one in found.candidates] == [0, 1, 2]
    assert engine.asked == [22, 88, 352]
    assert not found.exhausted


async def test_a_query_of_zeros_is_equally_near_to_all() -> None:
    vectors, store = MarkedVectorStore(MemoryEngine(), SCHEMA, shared=False), StoreId("vs_1")
    chunks = hostile_chunks(count=9)
    await vectors.create(store, dimensions=len(chunks[0].vector))
    await vectors.add(store, chunks)
    found = await vectors.search(store, Query((0.0,) * len(chunks[0].vector), limit=4), plan=Everything())

    assert [(one.id, one.score) for one in found.candidates] == [(one.id, 0.0) for one in chunks[:4]]


def test_an_engine_may_take_fewer_levels_and_conditions() -> None:
    pairs = [And((Compare("eq", ("owner",), f"o{n}"), Compare("eq", ("region",), "eu"))) for n in range(9)]
    plan = Matching(Or(tuple(pairs)))

    assert render(plan, MARKING, Limits(deepest=4, most_conditions=19))
    with pytest.raises(FilterNotExpressible) as too_deep:
        render(plan, MARKING, Limits(deepest=3))
    with pytest.raises(FilterNotExpressible) as too_many:
        render(plan, MARKING, Limits(most_conditions=18))

    assert "4 levels" in too_deep.value.detail
    assert "19 conditions" in too_many.value.detail


class Uncounted(MemoryEngine):
    """Tells only how many rows a store has in all."""

    async def count(self, store: StoreId, where: Tree, *, tenant: str | None) -> int | None:
        return await super().count(store, where, tenant=tenant) if where is True else None


async def test_an_engine_that_does_not_count_tells_only_whether_there_are_more() -> None:
    chunks = hostile_chunks(count=40)
    store = StoreId("vs_uncounted")
    vectors = MarkedVectorStore(Uncounted(), SCHEMA, shared=False)
    await vectors.create(store, dimensions=len(chunks[0].vector))
    await vectors.add(store, chunks)
    found = [
        await vectors.search(store, Query(chunks[0].vector, limit=limit), plan=Everything())
        for limit in (10, 20, 40)
    ]

    assert [(one.total, one.permitted, one.exhausted) for one in found] == [
        (40, None, False),
        (40, 40, False),
        (40, 40, True),
    ]
