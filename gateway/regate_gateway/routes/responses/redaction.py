"""Stored items as they leave again: what of them is withheld by now, and what a reader asked to see
beside them (`include`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from regate_orchestrator.responses.context.history import Readmitted, passages_of, redacted_body
from regate_orchestrator.responses.tools.kinds.table import KINDS
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
        if (kind := KINDS.get(str(body["type"]))) is not None:
            body = kind.shown(body, passages_of(item) if visible else (), include)
        shown.append(body)
    return shown
