"""The algebra: folding and normal form change nothing of what an expression means."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from regate_orchestrator.filters.evaluate import holds
from regate_orchestrator.filters.expression import (
    ALWAYS,
    NEVER,
    Compare,
    CompareFields,
    Defined,
    Everything,
    Expression,
    In,
    Matching,
    NonEmpty,
    Not,
    Nothing,
    Ordered,
    Overlaps,
    Text,
    Truthy,
    all_of,
    any_of,
    expression_of,
    narrow,
    negate,
    normalize,
    plan_of,
    size,
)

scalars = st.sampled_from([None, True, False, 0, 1, 1.0, 2, "", "a", "1"])
fields = st.sampled_from([("a",), ("b",), ("nested", "c")])
values = st.lists(scalars, max_size=3).map(tuple)
operators = st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge"])
atoms: st.SearchStrategy[Expression] = st.one_of(
    st.builds(Compare, operators, fields, scalars),
    st.builds(Ordered, st.sampled_from(["lt", "le", "gt", "ge"]), fields, st.sampled_from([0, 1, 1.0, 2])),
    st.builds(CompareFields, operators, fields, fields),
    st.builds(In, fields, values),
    st.builds(Overlaps, fields, values),
    st.builds(
        Text, st.sampled_from(["startswith", "endswith", "contains"]), fields, st.sampled_from(["", "a"])
    ),
    st.builds(Truthy, fields),
    st.builds(Defined, fields),
    st.builds(NonEmpty, fields),
    st.sampled_from([ALWAYS, NEVER]),
)
expressions = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(all_of), st.lists(inner, max_size=3).map(any_of), inner.map(negate)
    ),
)
leaves = st.one_of(scalars, st.lists(scalars, max_size=2))
rows = st.fixed_dictionaries(
    {},
    optional={
        "a": leaves,
        "b": leaves,
        "nested": st.one_of(leaves, st.fixed_dictionaries({}, optional={"c": leaves})),
    },
)


@settings(max_examples=300)
@given(expressions, rows)
def test_normal_form_means_the_same(expression: Expression, row: dict[str, object]) -> None:
    assert holds(normalize(expression), row) == holds(expression, row)


@settings(max_examples=300)
@given(expressions, rows)
def test_negation_is_the_exact_complement(expression: Expression, row: dict[str, object]) -> None:
    assert holds(negate(expression), row) != holds(expression, row)


@settings(max_examples=200)
@given(expressions, expressions, rows)
def test_narrowing_never_admits_more(policy: Expression, client: Expression, row: dict[str, object]) -> None:
    narrowed = holds(expression_of(narrow(plan_of(policy), client)), row)

    assert narrowed == (holds(policy, row) and holds(client, row))


def test_empty_conjunction_is_always_and_empty_disjunction_never() -> None:
    assert (all_of([]), any_of([])) == (ALWAYS, NEVER)


def test_plans_are_explicit() -> None:
    atom = Defined(("a",))

    assert [plan_of(ALWAYS), plan_of(NEVER), plan_of(atom)] == [Everything(), Nothing(), Matching(atom)]


def test_values_that_python_takes_for_equal_are_kept_apart() -> None:
    joined = any_of([Compare("eq", ("a",), 1), Compare("eq", ("a",), True)])

    assert holds(joined, {"a": True})
    assert holds(joined, {"a": 1})


def test_missing_null_and_other_types_never_satisfy_a_positive_atom() -> None:
    assert not any(
        holds(Compare("eq", ("a",), "x"), row) for row in ({}, {"a": None}, {"a": 1}, {"a": ["x"]})
    )


def test_not_equal_needs_the_field_and_its_negation_does_not() -> None:
    assert not holds(Compare("ne", ("a",), 1), {})
    assert holds(Not(Compare("ne", ("a",), 1)), {})


def test_size_counts_what_a_store_pays_for() -> None:
    assert size(all_of([In(("a",), (1, 2)), Not(Defined(("b",)))])) == 6
