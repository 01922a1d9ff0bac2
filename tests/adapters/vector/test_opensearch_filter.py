"""Conditions on marks in the words of OpenSearch and Elasticsearch."""

from __future__ import annotations

import pytest

from regate_adapters.vector.marked.tree import All, Has, Lacks, Some, Tree
from regate_adapters.vector.opensearch.filter import rendered
from regate_orchestrator.values import JsonObject

ACME, HR, EU = (Has((mark,)) for mark in ("tenant=s:acme", "teams@s:hr", "region=s:eu"))


def terms(*marks: str) -> JsonObject:
    return {"terms": {"marks": list(marks)}}


@pytest.mark.parametrize(
    ("tree", "queries"),
    [
        (True, []),
        (False, [{"match_none": {}}]),
        (ACME, [terms("tenant=s:acme")]),
        (Has(("a", "b")), [terms("a", "b")]),
        (Lacks(("a", "b")), [{"bool": {"must_not": [terms("a", "b")]}}]),
        (All((ACME, Lacks(("a",)))), [terms("tenant=s:acme"), {"bool": {"must_not": [terms("a")]}}]),
        (
            All((ACME, Some((HR, All((EU, Lacks(("a",)))))))),
            [
                terms("tenant=s:acme"),
                {
                    "bool": {
                        "should": [
                            terms("teams@s:hr"),
                            {
                                "bool": {
                                    "filter": [terms("region=s:eu"), {"bool": {"must_not": [terms("a")]}}]
                                }
                            },
                        ],
                        "minimum_should_match": 1,
                    }
                },
            ],
        ),
    ],
)
def test_condition_in_queries(tree: Tree, queries: list[JsonObject]) -> None:
    assert rendered(tree) == queries
