"""Filter plans as records show them: kind, size and digest, never their values. Pure; `enforcer.py`
writes them down.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from regate_orchestrator.filters.expression import (
    And,
    Everything,
    Expression,
    FilterPlan,
    In,
    Matching,
    Not,
    Nothing,
    Or,
    Overlaps,
    expression_of,
    size,
)
from regate_orchestrator.values import JsonObject


@dataclass(frozen=True, slots=True)
class Compiled:
    """A filter plan, and what an audit record says of how it was made: enough to make it again, never
    its values.
    """

    plan: FilterPlan
    note: JsonObject
    revision: str
    now: int
    """The time that the plan was made for: it may have been made for an earlier request."""
    asked_at: int
    """The time at which it was asked for."""


def describe(plan: FilterPlan) -> JsonObject:
    """Return a plan as audit records show it: its kind and size, never its values."""
    match plan:
        case Everything():
            return {"kind": "everything"}
        case Nothing():
            return {"kind": "nothing"}
        case Matching(expression):
            return {"kind": "matching", "size": size(expression)}


def plan_digest(plan: FilterPlan) -> str:
    """Return a digest that two plans share when they are the same tree, in whatever order its parts
    and values are written.
    """
    return hashlib.sha256(_spelt(expression_of(plan)).encode()).hexdigest()[:16]


def _spelt(expression: Expression) -> str:
    match expression:
        case And(parts) | Or(parts):
            return f"{type(expression).__name__}({', '.join(sorted(map(_spelt, parts)))})"
        case Not(part):
            return f"Not({_spelt(part)})"
        case In(path, values) | Overlaps(path, values):
            return f"{type(expression).__name__}({path!r}, {sorted(map(repr, values))})"
        case _:
            return repr(expression)
