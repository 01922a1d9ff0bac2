"""The filter for PostgreSQL: what is particular to it. That it means what the algebra means is the
conformance suite's to show.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest

from regate_adapters.testing.vector.suite import DIMENSIONS, SCHEMA, hostile_chunks
from regate_adapters.vector.pgvector.filter import Parameters, render
from regate_adapters.vector.pgvector.store import PgVectorStore
from regate_adapters.vector.pgvector.values import shown_json, shown_text, stored_json, stored_text
from regate_orchestrator.errors import FilterNotExpressible
from regate_orchestrator.filters.evaluate import holds
from regate_orchestrator.filters.expression import (
    And,
    Compare,
    CompareFields,
    Defined,
    Expression,
    Field,
    In,
    NonEmpty,
    Not,
    Operator,
    Or,
    Overlaps,
    Text,
    Truthy,
    plan_of,
)
from regate_orchestrator.ports import Chunk, Query
from regate_orchestrator.values import StoreId

STORE = StoreId("vs_0123456789abcdef")
OPERATORS: tuple[Operator, ...] = ("eq", "ne", "lt", "le", "gt", "ge")
FIELDS: tuple[Field, ...] = (
    *((name,) for name in SCHEMA.fields),
    ("attributes", "colour"),
    ("attributes", "size"),
    ("attributes", "a.b"),
    ("attributes", "0"),
    ("attributes", "colour", "deeper"),
    ("teams", "0"),
    ("nowhere",),
)


async def disagreements(
    store: PgVectorStore, chunks: list[Chunk], expressions: Iterator[Expression]
) -> tuple[list[Expression], int]:
    """Return the expressions on which the store and the algebra's meaning disagree, and how many tell
    rows apart.
    """
    await store.create(STORE, dimensions=DIMENSIONS)
    await store.add(STORE, chunks)
    rows = {
        chunk.id: {**SCHEMA.canonical(chunk.stamp), "attributes": dict(chunk.attributes)} for chunk in chunks
    }
    wrong: list[Expression] = []
    telling = 0
    for expression in expressions:
        found = await store.search(STORE, Query(chunks[0].vector, limit=1_000), plan=plan_of(expression))
        expected = {identifier for identifier, row in rows.items() if holds(expression, row)}
        telling += 0 < len(expected) < len(rows)
        if {candidate.id for candidate in found.candidates} != expected:
            wrong.append(expression)
    return wrong, telling


def hostile() -> list[Chunk]:
    """Return the hostile chunks, some of them with attributes and lists that are hostile to this
    database above all.
    """
    odd = ("\x00", "\x01", "\x02", "\x01\x02\x02", "\x03", "\x04", "a\x00b", "a\x01b", "\uffff", "\U0001f600")
    chunks = hostile_chunks()
    for number, (one, other) in enumerate(itertools.pairwise((*odd, *odd))):
        chunk = chunks[number]
        stamp = {
            **chunk.stamp,
            "owner": one,
            "region": other,
            "teams": [one, other],
            "labels": [other, one][: number % 3],
        }
        attributes = {"colour": one, "size": None if number % 2 else 2**60 + number, "0": other, one: other}
        chunks[number] = replace(chunk, stamp=stamp, attributes=attributes)
    return chunks


async def test_two_fields_of_any_types_compare_as_in_rego(pgvector: PgVectorStore) -> None:
    pairs = (
        CompareFields(operator, left, right)
        for operator in OPERATORS
        for left, right in itertools.product(FIELDS, FIELDS)
    )
    # A fifth of some 1,700 keeps the test short; every field still meets every other under some operator or
    # its mirror.
    some = (
        expression
        for number, pair in enumerate(pairs)
        if number % 5 == 0
        for expression in (pair, Not(pair))
        if expression is pair or number % 25 == 0
    )
    wrong, telling = await disagreements(pgvector, hostile(), some)
    assert (wrong, telling > 100) == ([], True)


async def test_texts_that_need_an_escape_are_found_as_in_rego(pgvector: PgVectorStore) -> None:
    known = ("\x00", "\x01", "\x02", "\x03", "\x01\x02", "\x02\x02", "a\x00", "\x00b", "\x01b", "\x04")
    fields: tuple[Field, ...] = (("owner",), ("region",), ("attributes", "colour"))

    def expressions() -> Iterator[Expression]:
        for field, value in itertools.product(fields, known):
            yield from (Compare(operator, field, value) for operator in OPERATORS)
            yield from (Text(operator, field, value) for operator in ("startswith", "endswith", "contains"))
            yield In(field, (value, "acme"))
        for value in known:
            yield Overlaps(("teams",), (value,))
            yield Defined(("attributes", value))
            yield Overlaps(("attributes",), (value,))

    wrong, telling = await disagreements(pgvector, hostile(), expressions())
    assert (wrong, telling > 100) == ([], True)


async def test_the_attributes_as_a_whole_are_an_object(pgvector: PgVectorStore) -> None:
    whole: Field = ("attributes",)
    expressions: list[Expression] = [
        Truthy(whole),
        Defined(whole),
        NonEmpty(whole),
        Not(NonEmpty(whole)),
        Overlaps(whole, (True, 1, None, "hr")),
        Overlaps(whole, ()),
        In(whole, ("acme", 1, None)),
        Text("contains", whole, ""),
        *(Compare(operator, whole, value) for operator in OPERATORS for value in ("acme", 1, None, False)),
        *(
            CompareFields(operator, whole, other)
            for operator in OPERATORS
            for other in (("owner",), ("teams",), ("attributes", "size"))
        ),
    ]
    chunks = [
        replace(chunk, attributes={}) if number % 4 == 0 else chunk for number, chunk in enumerate(hostile())
    ]
    wrong, telling = await disagreements(pgvector, chunks, iter(expressions))
    assert (wrong, telling >= 3) == ([], True)


async def test_wide_deep_and_long_filters_are_answered_within_the_bounds(pgvector: PgVectorStore) -> None:
    deep: Expression = Compare("eq", ("owner",), "acme")
    for number in range(30):
        deep = And(
            (
                Or((Overlaps(("teams",), ("hr", f"team-{number}")), Not(deep))),
                Compare("ne", ("level",), number),
            )
        )
    wide = Or(tuple(Compare("eq", ("attributes", f"key-{number}"), number) for number in range(1_500)))
    long = Overlaps(("teams",), ("hr", *(f"team-{number}" for number in range(20_000))))
    expressions: list[Expression] = [
        deep,
        Or((wide, Compare("eq", ("owner",), "acme"))),
        long,
        And((long, Not(deep))),
    ]
    wrong, telling = await disagreements(pgvector, hostile(), iter(expressions))
    assert (wrong, telling >= 3) == ([], True)


def too_deep() -> Expression:
    expression: Expression = Defined(("owner",))
    for number in range(60):
        expression = And((Or((expression, Compare("eq", ("level",), number))), Defined(("teams",))))
    return expression


@pytest.mark.parametrize(
    "expression",
    [
        Defined(()),
        Compare("eq", ("owner",), "\ud800"),
        Compare("lt", ("attributes", "\udfff"), 1),
        In(("owner",), ("a", "\ud800")),
        Overlaps(("teams",), ("\ud800",)),
        Text("contains", ("owner",), "\ud800"),
        Compare("lt", ("level",), float("nan")),
        In(("level",), (float("inf"),)),
        CompareFields("eq", ("attributes",), ("attributes",)),
        Or(tuple(Compare("eq", ("level",), number) for number in range(2_001))),
        In(("owner",), tuple(f"name-{number}" for number in range(100_001))),
        too_deep(),
    ],
    ids=lambda expression: repr(expression)[:50],
)
def test_what_has_no_exact_form_is_refused_with_a_reason(expression: Expression) -> None:
    with pytest.raises(FilterNotExpressible) as refusal:
        render(expression, SCHEMA, Parameters())
    assert refusal.value.detail.startswith("PostgreSQL: ")


def test_no_value_and_no_name_stands_in_the_text_of_the_statement() -> None:
    expression = And(
        (
            Compare("eq", ("tenant",), "secretvalue"),
            Compare("lt", ("attributes", "keyname"), "secretvalue"),
            Overlaps(("teams",), ("secretvalue",)),
            In(("attributes", "keyname"), ("secretvalue", 471_147)),
            Text("endswith", ("owner",), "secretvalue"),
            CompareFields("lt", ("attributes", "keyname"), ("teams",)),
            Compare("ge", ("level",), 471_147),
        )
    )
    parameters = Parameters()
    statement = render(expression, SCHEMA, parameters).as_string(None)
    found = [word in statement for word in ("secretvalue", "keyname", "471147", "teams", "level")]
    assert (found, "secretvalue" in parameters.values.values()) == ([False] * 5, True)


def test_escaped_texts_keep_their_order_and_what_they_are_part_of() -> None:
    characters = ("\x00", "\x01", "\x02", "\x03", "\x04", "a")
    texts = ["".join(some) for length in range(4) for some in itertools.product(characters, repeat=length)]
    stored = [stored_text(text) for text in texts]
    assert [shown_text(text) for text in stored] == texts
    assert not any("\x00" in text for text in stored)
    assert sorted(texts) == [text for _, text in sorted(zip(stored, texts, strict=True))]
    parts = texts[:43]
    assert [[part in text for part in parts] for text in texts] == [
        [stored_text(part) in text for part in parts] for text in stored
    ]


def test_json_comes_back_as_it_was_stored() -> None:
    value = {
        "a\x00": [None, True, False, 0, -1.5, 5e-324, 1e300, 2**53, 2**70, "", "\x01\x02", {"b": []}],
        "": "é",
    }
    assert shown_json(stored_json(value)) == value
