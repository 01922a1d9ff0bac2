"""The tenant that a search is confined to, read off its filter. Not what confines it: that is
`retrieval/search.py`, which puts the condition there.
"""

from __future__ import annotations

from typing import Final

from regate_orchestrator.filters.expression import And, Compare, Expression

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
