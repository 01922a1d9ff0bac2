"""The tenant that a search is confined to, read off its filter, or that chunks are of, read off their stamps.
Not what confines a search: that is `retrieval/search.py`, which puts the condition there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from regate_orchestrator.filters.expression import And, Compare, Expression
from regate_orchestrator.ports import Chunk

TENANT: Final = "tenant"


def tenant_of(expression: Expression) -> str | None:
    """Return the tenant to which the expression confines its rows by an outermost condition, or None
    when it has no such condition.
    """
    for part in expression.parts if isinstance(expression, And) else (expression,):
        match part:
            case Compare("eq", ("tenant",), str() as tenant):
                return tenant
            case _:
                pass
    return None


def one_tenant(chunks: Sequence[Chunk]) -> str | None:
    """Return the tenant that all of these chunks are stamped with, or None where they are not of one."""
    first = chunks[0].stamp.get(TENANT) if chunks else None
    is_one = all(chunk.stamp.get(TENANT) == first for chunk in chunks)
    return first if is_one and isinstance(first, str) else None
