"""Conditions on marks as LanceDB's SQL. No IO. The counterpart is `marked/filter.py`, which says what is
asked.

`NOT array_has_any` is the exact complement of `array_has_any`, since marks are never NULL; a list without
elements has none of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final, assert_never

from regate_adapters.vector.marked.filter import Limits
from regate_adapters.vector.marked.tree import All, Has, Lacks, Some, Tree

DEEPEST: Final = 28
"""LanceDB's parser takes 15 brackets within each other where each stands last, and no 16th; one is the
tenant's, and every second level of a condition needs one.
"""

MOST_CONDITIONS: Final = 3_000
"""Measured: this many, of one mark each, take 0.3 s to read; 50,000 marks of one condition take no longer."""
LIMITS: Final = Limits(deepest=DEEPEST, most_conditions=MOST_CONDITIONS)


def where_clause(tree: Tree, *, tenant: str | None = None) -> str | None:
    """Return the condition, and that the row is the tenant's where one is named; None for what always holds.

    The outermost part is a conjunction then, so that no precedence of the rest can widen it.
    """
    condition = None if tree is True else _condition(tree)
    if tenant is None:
        return condition
    own = f"tenant = '{tenant_key(tenant)}'"
    return own if condition is None else f"{own} AND ({condition})"


def tenant_key(tenant: str) -> str:
    """Return what stands for the tenant in its column: a digest, since a tenant may be any string."""
    return hashlib.sha256(tenant.encode(errors="surrogatepass")).hexdigest()[:32]


def _condition(tree: Tree) -> str:
    match tree:
        case bool():
            return "true" if tree else "false"
        case Has(marks):
            return f"array_has_any(marks, [{_quoted(marks)}])"
        case Lacks(marks):
            return f"NOT array_has_any(marks, [{_quoted(marks)}])"
        case All(parts):
            return " AND ".join(
                f"({_condition(part)})" if isinstance(part, Some) else _condition(part) for part in parts
            )
        case Some(parts):  # AND binds tighter, so that only every second level needs a bracket
            return " OR ".join(_condition(part) for part in parts)
        case _:
            assert_never(tree)


def _quoted(marks: Iterable[str]) -> str:
    return ", ".join("'" + mark.replace("'", "''") + "'" for mark in marks)
