"""What Chroma is told. That it means what the algebra means is shown, on the engine itself, by the
conformance suite.
"""

from __future__ import annotations

import json
import math

import pytest

from regate_adapters.testing.vector.suite import SCHEMA
from regate_adapters.vector.chroma.filter import Where, render
from regate_adapters.vector.chroma.layout import EMPTY, FALSE, TRUE, ChromaLayout
from regate_orchestrator.errors import ConfigurationError, FilterNotExpressible
from regate_orchestrator.filters.expression import (
    And,
    Compare,
    CompareFields,
    Constant,
    Defined,
    Everything,
    Expression,
    In,
    Matching,
    NonEmpty,
    Not,
    Nothing,
    Or,
    Overlaps,
    Text,
)
from regate_orchestrator.filters.schema import FieldSpec, RowSchema
from regate_orchestrator.values import StoreId

LAYOUT = ChromaLayout.of(SCHEMA)
GUARD = {"_gw_schema": {"$eq": LAYOUT.version}}
COLOUR = ("attributes", "colour")


def rendered(expression: Expression) -> Where | None:
    return render(Matching(expression), LAYOUT)


def test_everything_is_the_guard_and_never_an_empty_filter() -> None:
    assert render(Everything(), LAYOUT) == GUARD


def test_nothing_is_no_filter_at_all_but_its_absence() -> None:
    assert render(Nothing(), LAYOUT) is None


@pytest.mark.parametrize(
    ("expression", "where"),
    [
        (Compare("eq", ("tenant",), "acme"), {"tenant": {"$eq": "acme"}}),
        (Not(Compare("eq", ("tenant",), "acme")), {"tenant": {"$ne": "acme"}}),
        (Compare("ne", ("tenant",), "acme"), {"tenant": {"$ne": "acme"}}),
        (Compare("le", ("level",), 2), {"level": {"$lte": 2.0}}),
        (Not(Compare("le", ("level",), 2)), {"level": {"$gt": 2.0}}),
        (Overlaps(("teams",), ("hr",)), {"teams": {"$contains": "hr"}}),
        (NonEmpty(("teams",)), {"teams": {"$not_contains": EMPTY}}),
        (Not(NonEmpty(("teams",))), {"teams": {"$contains": EMPTY}}),
        (Compare("eq", COLOUR, "red"), {"attributes.colour": {"$eq": "red"}}),
        (Not(Compare("eq", COLOUR, "red")), {"attributes.colour": {"$ne": "red"}}),
        (Compare("eq", ("attributes", "$or"), True), {"attributes.$or": {"$eq": TRUE}}),
        (Defined(("region",)), {"_gw_types": {"$contains": "string:region"}}),
        (In(("tenant",), ("a", "b", "a")), {"tenant": {"$in": ["a", "b"]}}),
        (
            Or((Compare("eq", ("tenant",), "a"), Compare("eq", ("tenant",), "b"))),
            {"tenant": {"$in": ["a", "b"]}},
        ),
        (Not(In(("tenant",), ("a", "b"))), {"tenant": {"$nin": ["a", "b"]}}),
        (Or((Compare("eq", ("tenant",), "a"),)), {"tenant": {"$eq": "a"}}),
    ],
    ids=repr,
)
def test_an_atom_is_conjoined_to_the_guard(expression: Expression, where: Where) -> None:
    assert rendered(expression) == {"$and": [GUARD, where]}


@pytest.mark.parametrize(
    "expression",
    [
        Constant(holds=False),
        In(("tenant",), ()),
        Overlaps(("teams",), ()),
        Overlaps(("teams",), (1, None, EMPTY)),
        Compare("eq", ("tenant",), TRUE),
        Compare("eq", ("tenant",), 1),
        Compare("eq", ("level",), True),
        Compare("eq", ("level",), None),
        Not(Defined(("tenant",))),
        And((Compare("eq", ("tenant",), "a"), Compare("lt", ("legal_hold",), False))),
        Text("contains", ("level",), "1"),
    ],
    ids=repr,
)
def test_what_no_stored_chunk_can_match_needs_no_engine(expression: Expression) -> None:
    assert rendered(expression) is None


def test_a_presence_test_is_conjoined_where_the_operator_alone_would_find_the_absent() -> None:
    assert rendered(Compare("ne", ("region",), "eu")) == {
        "$and": [{"$and": [GUARD, {"_gw_types": {"$contains": "string:region"}}]}, {"region": {"$ne": "eu"}}]
    }


def test_the_complement_of_a_range_includes_what_is_no_number() -> None:
    assert rendered(Not(Compare("gt", ("rank",), 2))) == {
        "$and": [GUARD, {"$or": [{"_gw_types": {"$not_contains": "number:rank"}}, {"rank": {"$lte": 2.0}}]}]
    }


def test_numbers_and_strings_are_listed_apart_and_booleans_are_neither() -> None:
    assert rendered(In(COLOUR, (1, True, 1.0, "1", False))) == {
        "$and": [
            GUARD,
            {
                "$or": [
                    {"attributes.colour": {"$eq": 1.0}},
                    {"attributes.colour": {"$in": [TRUE, "1", FALSE]}},
                ]
            },
        ]
    }


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        (Text("startswith", ("tenant",), "a"), "Chroma has no string predicates (tenant)"),
        (Not(Text("contains", COLOUR, "a")), "Chroma has no string predicates (attributes.colour)"),
        (Compare("lt", ("tenant",), "m"), "Chroma cannot order strings (tenant)"),
        (CompareFields("eq", ("owner",), ("tenant",)), "Chroma cannot compare two fields (owner)"),
        (Compare("eq", ("nowhere",), 1), "the field is not stored"),
        (Not(Defined(("tenant", "deeper"))), "the field is not stored"),
        (Compare("eq", ("attributes",), 1), "the field is not stored"),
        (Compare("eq", ("_gw_schema",), "1"), "the field is not stored"),
        (Compare("eq", ("file_id",), "file-1"), "the field is not stored"),
        (Compare("le", ("level",), 2**53 + 1), "numbers beyond 2^53"),
        (Compare("le", ("level",), math.inf), "numbers beyond 2^53"),
        (Compare("eq", ("level",), math.nan), "numbers beyond 2^53"),
        (Compare("eq", ("tenant",), "\ud800"), "not valid Unicode"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("inside", ["alone", "or"])
def test_what_has_no_exact_form_is_refused_with_its_reason(
    expression: Expression, reason: str, inside: str
) -> None:
    whole = expression if inside == "alone" else Or((Compare("eq", ("tenant",), "acme"), expression))

    with pytest.raises(FilterNotExpressible) as refusal:
        rendered(whole)

    assert reason in refusal.value.detail


def test_a_large_disjunction_is_as_deep_as_its_logarithm() -> None:
    where = rendered(Overlaps(("teams",), tuple(f"team-{number}" for number in range(900))))

    assert _depth(where) <= 12


def _depth(value: object) -> int:
    match value:
        case {"$and": parts} | {"$or": parts}:
            assert isinstance(parts, list)
            return 1 + max(map(_depth, parts))
        case _:
            return 1


@pytest.mark.parametrize(
    "expression",
    [
        Overlaps(("teams",), tuple(f"team-{number}" for number in range(1_001))),
        Not(Overlaps(("teams",), tuple(f"team-{number}" for number in range(1_001)))),
        In(("owner",), tuple(f"user-{number}" for number in range(10_001))),
    ],
    ids=["disjunction", "conjunction", "list"],
)
def test_what_is_larger_than_the_engine_takes_is_refused(expression: Expression) -> None:
    with pytest.raises(FilterNotExpressible, match="cannot be applied") as refusal:
        rendered(expression)

    assert "at most 1000, 10000 and 60 are taken" in refusal.value.detail


def test_what_is_deeper_than_the_engine_takes_is_refused() -> None:
    expression: Expression = Compare("eq", ("tenant",), "acme")
    for level in range(40):
        other = Compare("eq", ("level",), level)
        expression = And((expression, Not(other))) if level % 2 else Or((expression, other))

    with pytest.raises(FilterNotExpressible):
        rendered(
            And(
                (
                    expression,
                    expression,
                    Or((expression, *(Compare("ne", ("rank",), one) for one in range(500)))),
                )
            )
        )


def test_no_value_is_ever_part_of_a_reason() -> None:
    with pytest.raises(FilterNotExpressible) as refusal:
        rendered(Compare("lt", ("tenant",), "s3cret"))

    assert "s3cret" not in refusal.value.detail


@pytest.mark.parametrize(
    "name", ["_gw_schema", "_gw_types", "file_id", "index", "attributes", "a.b", "$or", "", "chroma:document"]
)
def test_a_schema_may_not_take_a_name_that_the_layout_needs(name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be stored"):
        ChromaLayout.of(RowSchema("chunk", {name: FieldSpec(name, "string", required=True)}))


def test_the_version_changes_with_the_required_fields_and_with_nothing_else() -> None:
    tenant = FieldSpec("tenant", "string", required=True)
    level = FieldSpec("level", "number", required=True)
    optional = FieldSpec("region", "string", required=False)

    versions = [
        ChromaLayout.of(RowSchema(kind, {spec.name: spec for spec in specs})).version
        for kind, specs in (
            ("chunk", (tenant, level)),
            ("other", (level, tenant)),
            ("chunk", (tenant, level, optional)),
            ("chunk", (tenant,)),
            ("chunk", (tenant, FieldSpec("level", "string", required=True))),
        )
    ]

    assert (len(set(versions[:3])), len(set(versions))) == (1, 3)


def test_every_key_is_of_the_store() -> None:
    layout = LAYOUT.at(StoreId("vs_1"))

    where = render(Matching(Not(Compare("gt", ("rank",), 2))), layout)

    assert len(layout.prefix) == 13
    assert json.dumps(where).count(layout.prefix) == json.dumps(where).count('": {"$') == 3


def test_the_filter_is_json() -> None:
    where = rendered(
        And((Compare("eq", ("tenant",), 'a"}'), In(COLOUR, (1, "x")), Not(Overlaps(("labels",), ("pii",)))))
    )

    assert where == json.loads(json.dumps(where))
