"""Stored items as they leave again: what of them is withheld by now, and what a reader asked to see
beside them (`include`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from regate_orchestrator.responses.context.history import Readmitted, passages_of, redacted_body
from regate_orchestrator.responses.tools.kinds import KINDS
from regate_orchestrator.values import JsonObject


def redacted_items(
    left: Readmitted, include: Collection[str], *, direction: Literal["input", "output"] | None
) -> list[JsonObject]:
    """Return the items as the caller may see them now; those of one direction, or all."""
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
