"""Qdrant's filters as they are asked: golden, and never deeper than its server reads."""

from __future__ import annotations

import pytest

from regate_adapters.testing.vector.suite import SCHEMA
from regate_adapters.vector.marked.tree import All, Has, Lacks, Some, Tree
from regate_adapters.vector.qdrant.filter import Words, render, tenant_key
from regate_adapters.vector.qdrant.kind import Qdrant
from regate_orchestrator.filters.expression import NEVER, And, Compare, Matching, Not, Overlaps, plan_of
from regate_orchestrator.values import StoreId

STORE = StoreId("vs_1")
OF_STORE: Words = {"key": "store", "match": {"value": "vs_1"}}
MOST_LEVELS = 127
"""What the server's JSON reader takes (serde_json's own limit)."""


def marks(*names: str) -> Words:
    return {"key": "marks", "match": {"any": list(names)}}


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        (True, {"must": [OF_STORE]}),
        (Has(("a", "b")), {"must": [OF_STORE, marks("a", "b")]}),
        (Lacks(("a", "b")), {"must": [OF_STORE], "must_not": [marks("a", "b")]}),
        (
            All((Has(("a",)), Has(("b",)), Lacks(("c",)))),
            {"must": [OF_STORE, marks("a"), marks("b")], "must_not": [marks("c")]},
        ),
        (
            Some((Has(("a",)), Lacks(("b",)), All((Has(("c",)), Lacks(("d",)))))),
            {
                "must": [
                    OF_STORE,
                    {
                        "should": [
                            marks("a"),
                            {"must_not": [marks("b")]},
                            {"must": [marks("c")], "must_not": [marks("d")]},
                        ]
                    },
                ]
            },
        ),
    ],
)
def test_the_filter_as_qdrant_is_asked(tree: Tree, words: Words) -> None:
    assert render(tree, store=STORE) == words


def test_a_tenant_is_asked_for_by_its_digest() -> None:
    found = render(Has(("a",)), store=STORE, tenant="acme")

    key = "822b33ad87c148a0a20a5ba7cd5ebcaa"
    assert found == {"must": [OF_STORE, {"key": "tenant", "match": {"value": key}}, marks("a")]}
    assert len({tenant_key(name) for name in ("", "a", "A", "a\x00", "\ud800", "e\u0301", "\u00e9")}) == 7


def test_the_deepest_filter_is_one_that_a_server_reads() -> None:
    tree: Tree = Lacks(("a",))
    for level in range(59):  # marked/filter.py takes 60 levels
        kind = All if level % 2 else Some
        tree = kind((Has((f"{level}",)), tree))

    assert levels({"filter": render(tree, store=STORE, tenant="acme")}) < MOST_LEVELS


def levels(words: object) -> int:
    inner = words.values() if isinstance(words, dict) else words if isinstance(words, list) else None
    return 0 if inner is None else 1 + max(map(levels, inner), default=0)


def test_a_policy_as_qdrant_is_asked() -> None:
    render_plan = Qdrant().renderer(SCHEMA)
    found = render_plan(
        Matching(
            And(
                (
                    Compare("eq", ("tenant",), "acme"),
                    Overlaps(("teams",), ("hr",)),
                    Not(Compare("eq", ("region",), "eu")),
                )
            )
        )
    )

    version = found["must"][1]["match"]["any"][0]  # type: ignore[index]  # rendered as an object
    assert version.startswith(".version=")
    assert found == {
        "must": [
            {"key": "store", "match": {"value": ""}},
            marks(version),
            marks("tenant=s:acme"),
            marks("teams@s:hr"),
        ],
        "must_not": [marks("region=s:eu")],
    }
    assert render_plan(plan_of(NEVER)) is False
