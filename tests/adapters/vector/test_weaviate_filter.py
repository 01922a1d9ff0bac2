"""Conditions on marks in Weaviate's words, as JSON and in GraphQL."""

from __future__ import annotations

import pytest

from regate_adapters.vector.marked.tree import All, Has, Lacks, Some, Tree
from regate_adapters.vector.weaviate.filter import conjoined, equal, in_graphql, place_below, rendered
from regate_orchestrator.values import JsonObject

ACME, HR, EU = (Has((mark,)) for mark in ("tenant=s:acme", "teams@s:hr", "region=s:eu"))


def contains(which: str, *marks: str) -> JsonObject:
    return {"path": ["marks"], "operator": f"Contains{which}", "valueTextArray": list(marks)}


@pytest.mark.parametrize(
    ("tree", "filters"),
    [
        (True, []),
        (
            False,
            [
                {"path": ["place"], "operator": "GreaterThanEqual", "valueInt": 2**31 - 1},
                {"path": ["place"], "operator": "LessThan", "valueInt": 0},
            ],
        ),
        (ACME, [contains("Any", "tenant=s:acme")]),
        (Has(("a", "b")), [contains("Any", "a", "b")]),
        (Lacks(("a", "b")), [contains("None", "a", "b")]),
        (All((ACME, Lacks(("a",)))), [contains("Any", "tenant=s:acme"), contains("None", "a")]),
        (
            Some((HR, All((EU, Lacks(("a",)))))),
            [
                {
                    "operator": "Or",
                    "operands": [
                        contains("Any", "teams@s:hr"),
                        {
                            "operator": "And",
                            "operands": [contains("Any", "region=s:eu"), contains("None", "a")],
                        },
                    ],
                }
            ],
        ),
    ],
)
def test_condition_in_filters(tree: Tree, filters: list[JsonObject]) -> None:
    assert rendered(tree) == filters


def test_filters_are_conjoined() -> None:
    one, other = equal("tenant", "a"), place_below(7)

    assert conjoined([]) == {"path": ["place"], "operator": "GreaterThanEqual", "valueInt": 0}
    assert conjoined([one]) == one
    assert conjoined([one, other]) == {"operator": "And", "operands": [one, other]}


def test_filter_in_graphql() -> None:
    where = conjoined([equal("tenant", 'a"b'), *rendered(Some((Has(("x", "y")), Lacks(("z",)))))])

    assert in_graphql(where) == (
        '{operator:And operands:[{path:["tenant"] operator:Equal valueText:"a\\"b"} '
        '{operator:Or operands:[{path:["marks"] operator:ContainsAny valueText:["x", "y"]} '
        '{path:["marks"] operator:ContainsNone valueText:["z"]}]}]}'
    )
