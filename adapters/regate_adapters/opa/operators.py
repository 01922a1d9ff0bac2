"""Which operators of Rego a filter has, by their names."""

from __future__ import annotations

from typing import Final

from regate_orchestrator.filters.expression import Operator, TextOperator

COMPARISONS: Final[dict[str, Operator]] = {
    "eq": "eq",
    "equal": "eq",
    "neq": "ne",
    "lt": "lt",
    "lte": "le",
    "gt": "gt",
    "gte": "ge",
}
MIRRORED: Final[dict[Operator, Operator]] = {
    "eq": "eq",
    "ne": "ne",
    "lt": "gt",
    "gt": "lt",
    "le": "ge",
    "ge": "le",
}
TEXT: Final[dict[str, TextOperator]] = {
    "startswith": "startswith",
    "endswith": "endswith",
    "contains": "contains",
}
