"""Conditions on marks as a filter of Qdrant, in the JSON of its API. Its counterpart is `engine.py`, which
asks. No IO, and no client library: `modelled` is given the client's words.

A list matches `any` when one of its elements is among the values, and `must_not` is true of a point that has
no such list at all.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final, TypeAlias, assert_never

from regate_adapters.vector.marked.tree import All, Has, Lacks, Some, Tree
from regate_orchestrator.values import StoreId

STORE: Final = "store"
TENANT: Final = "tenant"
MARKS: Final = "marks"

Words: TypeAlias = dict[str, Any]
"""A filter or a condition, as Qdrant's API takes it."""


def render(where: Tree, *, store: StoreId, tenant: str | None = None) -> Words:
    """Return the filter for the store's rows, and the tenant's where one is named, for which the condition
    holds; it is never `False`.
    """
    must = [_equal(STORE, store)]
    if tenant is not None:
        must.append(_equal(TENANT, tenant_key(tenant)))
    return _both({"must": must}, _joined(where.parts if isinstance(where, All) else (where,)))


def tenant_key(tenant: str) -> str:
    """Return what stands for a tenant: a digest, since a tenant may be any string."""
    return hashlib.sha256(tenant.encode(errors="surrogatepass")).hexdigest()[:32]


def modelled(words: Words, client: Any) -> Any:
    """Return the filter made of the client's own classes, from the leaves up: so each part is validated
    once, and not once for each way in which it might be read.
    """
    lists = {
        name: [
            modelled(part, client) if "key" not in part else _leaf(part, client)
            for part in words.get(name, ())
        ]
        or None
        for name in ("must", "should", "must_not")
    }
    return client.Filter(**lists)


def _leaf(words: Words, client: Any) -> Any:
    match words["match"]:
        case {"any": values}:
            return client.FieldCondition(key=words["key"], match=client.MatchAny(any=values))
        case {"value": value}:
            return client.FieldCondition(key=words["key"], match=client.MatchValue(value=value))
        case _:
            raise AssertionError("not a condition of ours")


def _joined(parts: tuple[Tree, ...]) -> Words:
    """Return one filter of which all parts must hold."""
    joined: Words = {}
    for part in parts:
        match part:
            case Lacks(marks):
                joined.setdefault("must_not", []).append(_any(marks))
            case True:
                pass
            case _:
                joined.setdefault("must", []).append(_condition(part))
    return joined


def _condition(tree: Tree) -> Words:
    match tree:
        case Has(marks):
            return _any(marks)
        case Lacks():
            return _joined((tree,))
        case All(parts):
            return _joined(parts)
        case Some(parts):
            return {"should": [_condition(part) for part in parts]}
        case bool():
            raise AssertionError("a constant stands alone only")
        case _:
            assert_never(tree)


def _both(one: Words, other: Words) -> Words:
    lists = {name: [*one.get(name, ()), *other.get(name, ())] for name in ("must", "must_not")}
    return {name: parts for name, parts in lists.items() if parts}


def _any(marks: tuple[str, ...]) -> Words:
    return {"key": MARKS, "match": {"any": list(marks)}}


def _equal(key: str, value: str) -> Words:
    return {"key": key, "match": {"value": value}}
