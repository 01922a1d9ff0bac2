"""Conditions on marks as an expression of Milvus. Its counterpart is `engine.py`, which asks. No IO, and no
client library.

Nothing that a caller wrote is in an expression: stores and tenants stand there as digests, and marks have no
quotes, which is checked.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, assert_never

from regate_adapters.vector.marked.tree import All, Has, Lacks, Some, Tree
from regate_orchestrator.values import StoreId

_MARK: Final = re.compile(r"[A-Za-z0-9_.@:#=/-]+")
_KEY_DIGITS: Final = 32


def render(where: Tree, *, store: StoreId, tenant: str | None = None) -> str:
    """Return the expression for the store's rows, and the tenant's where one is named, for which the
    condition holds; it is never `False`.
    """
    parts = [f'store == "{key_of(store)}"']
    if tenant is not None:
        parts.append(f'tenant == "{key_of(tenant)}"')
    if where is not True:
        parts += [_condition(part) for part in (where.parts if isinstance(where, All) else (where,))]
    return " and ".join(parts)


def key_of(name: str) -> str:
    """Return what stands for a store or a tenant: a digest, since a tenant may be any string."""
    return hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:_KEY_DIGITS]


def _condition(tree: Tree) -> str:
    match tree:
        case Has(marks):
            return _any(marks)
        case Lacks(marks):
            return f"(not {_any(marks)})"
        case All(parts):
            return f"({' and '.join(map(_condition, parts))})"
        case Some(parts):
            return f"({' or '.join(map(_condition, parts))})"
        case bool():
            raise AssertionError("a constant stands alone only")
        case _:
            assert_never(tree)


def _any(marks: tuple[str, ...]) -> str:
    for mark in marks:
        if not _MARK.fullmatch(mark):
            raise ValueError("not a mark")
    listed = ", ".join(f'"{mark}"' for mark in marks)
    return f"array_contains_any(marks, [{listed}])"
