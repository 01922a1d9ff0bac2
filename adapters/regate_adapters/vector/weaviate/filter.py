"""Conditions on marks as filters of Weaviate: as JSON for its REST API, and the same in GraphQL. No IO.

`ContainsAny` finds rows with at least one of the values and `ContainsNone` all others, also those without any
value. The property has the tokenization `field`, under which a value is compared whole. So each filter is
exact.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final, assert_never, cast

from regate_adapters.vector.marked.filter import Limits
from regate_adapters.vector.marked.tree import All, Has, Lacks, Some, Tree
from regate_orchestrator.values import JsonObject

MOST_MARKS: Final = 50_000
"""A filter with so many takes Weaviate a second."""
DEEPEST: Final = 60
MOST_CONDITIONS: Final = 2_000
"""A filter with so many takes Weaviate a second too."""
LIMITS: Final = Limits(most_marks=MOST_MARKS, deepest=DEEPEST, most_conditions=MOST_CONDITIONS)
MARKS: Final = "marks"
EVERY_PLACE: Final = 2**31
"""Places are below, which is what GraphQL's whole numbers can be."""


def rendered(tree: Tree) -> list[JsonObject]:
    """Return the condition as filters that must all hold; none where everything does."""
    match tree:
        case bool():
            return [] if tree else [place_from(EVERY_PLACE - 1), place_below(0)]
        case All(parts):
            return [_filter(part) for part in parts]
        case _:
            return [_filter(tree)]


def conjoined(filters: Sequence[JsonObject]) -> JsonObject:
    """Return the filter under which all of them hold, or every row where there is none."""
    if not filters:
        return place_from(0)
    return filters[0] if len(filters) == 1 else {"operator": "And", "operands": list(filters)}


def equal(name: str, text: str) -> JsonObject:
    """Return the filter of rows whose property is this text."""
    return {"path": [name], "operator": "Equal", "valueText": text}


def place_from(place: int) -> JsonObject:
    """Return the filter of rows whose place is this or a later one."""
    return {"path": ["place"], "operator": "GreaterThanEqual", "valueInt": place}


def place_below(place: int) -> JsonObject:
    """Return the filter of rows whose place is an earlier one."""
    return {"path": ["place"], "operator": "LessThan", "valueInt": place}


def in_graphql(where: JsonObject) -> str:
    """Return a filter as GraphQL has it: operators are bare words, and lists have no names of their own."""
    words = []
    for name, value in where.items():
        match name:
            case "operator":
                words.append(f"operator:{value}")
            case "operands":
                parts = (in_graphql(part) for part in cast("Sequence[JsonObject]", value))
                words.append(f"operands:[{' '.join(parts)}]")
            case _:
                words.append(f"{name.removesuffix('Array')}:{json.dumps(value)}")
    return "{" + " ".join(words) + "}"


def _filter(tree: Tree) -> JsonObject:
    match tree:
        case Has(marks):
            return _contains("ContainsAny", marks)
        case Lacks(marks):
            return _contains("ContainsNone", marks)
        case Some(parts):
            return {"operator": "Or", "operands": [_filter(part) for part in parts]}
        case All() | bool():
            return conjoined(rendered(tree))
        case _:
            assert_never(tree)


def _contains(operator: str, marks: tuple[str, ...]) -> JsonObject:
    return {"path": [MARKS], "operator": operator, "valueTextArray": list(marks)}
