"""Stored items as they leave again: what of them is withheld by now, and what a reader asked to see
beside them (`include`).
"""

from __future__ import annotations

from typing import Literal

from regate_gateway.http.fields import Query
from regate_gateway.routes.responses.include import require_includable
from regate_orchestrator.responses.context.history import Readmitted, passages_of, redacted_body
from regate_orchestrator.responses.tools.kinds import KINDS
from regate_orchestrator.values import JsonObject


def included(query: Query) -> list[str]:
    """Return what the query string asks to see beside the items' usual parts."""
    names = query.strings("include", most=20)
    require_includable(names)
    return names


def redacted_items(
    left: Readmitted, query: Query, *, direction: Literal["input", "output"] | None
) -> list[JsonObject]:
    """Return the items as the caller may see them now; those of one direction, or all. Raises
    `InvalidRequest` for an unknown `include`.
    """
    include = included(query)
    shown: list[JsonObject] = []
    for item, visible in left.items:
        if direction not in (None, item.direction):
            continue
        body = redacted_body(item.body, shown=visible)
        if body["type"] in KINDS and f"{body['type']}.results" in include:
            body = {
                **body,
                "results": [passage.as_result() for passage in passages_of(item)] if visible else [],
            }
        shown.append(body)
    return shown
