"""Conditions on marks as queries of OpenSearch and Elasticsearch, which write them alike. No IO.

`terms` finds rows with at least one of the values, and a `bool` with nothing but `must_not` finds all others,
also those that have no mark at all. So each query is exact.
"""

from __future__ import annotations

from typing import Final, assert_never

from regate_adapters.vector.marked.filter import Limits
from regate_adapters.vector.marked.tree import All, Has, Lacks, Some, Tree
from regate_orchestrator.values import JsonObject

MOST_MARKS: Final = 50_000
"""`index.max_terms_count` is 65,536 by default."""
DEEPEST: Final = 24
"""Elasticsearch takes 30 levels of `bool` (`indices.query.bool.max_nested_depth`), one of which is around
the condition.
"""
MOST_CONDITIONS: Final = 1_000
"""`indices.query.bool.max_clause_count` is 1,024 by default; a `terms` counts as one, however long."""
LIMITS: Final = Limits(most_marks=MOST_MARKS, deepest=DEEPEST, most_conditions=MOST_CONDITIONS)


def rendered(tree: Tree) -> list[JsonObject]:
    """Return the condition as queries that must all match; none where everything does."""
    match tree:
        case bool():
            return [] if tree else [{"match_none": {}}]
        case All(parts):
            return [query for part in parts for query in rendered(part)]
        case _:
            return [_query(tree)]


def _query(tree: Tree) -> JsonObject:
    match tree:
        case Has(marks):
            return _terms(marks)
        case Lacks(marks):
            return {"bool": {"must_not": [_terms(marks)]}}
        case Some(parts):
            return {"bool": {"should": [_query(part) for part in parts], "minimum_should_match": 1}}
        case All() | bool():
            return {"bool": {"filter": rendered(tree)}}
        case _:
            assert_never(tree)


def _terms(marks: tuple[str, ...]) -> JsonObject:
    return {"terms": {"marks": list(marks)}}
