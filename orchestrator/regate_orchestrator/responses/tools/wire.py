"""Tools as backends know them: their names, and the functions that stand for them."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from regate_orchestrator.values import JsonObject

_WIRE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def wire_name(name: str, namespace: str | None) -> str:
    """Return the name of a client's tool before the backend: the same in every turn, and one that
    every backend takes.
    """
    joined = name if namespace is None else f"{namespace}__{name}"
    if _WIRE.fullmatch(joined):
        return joined
    digest = hashlib.sha256(joined.encode()).hexdigest()[:12]
    return re.sub(r"[^A-Za-z0-9_-]", "_", joined)[:51] + "_" + digest


def wire_function(name: str, description: str, **properties: JsonObject) -> JsonObject:
    """Return the function before a backend whose arguments are these properties, each of them required."""
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {
                "type": "object",
                "properties": properties,
                "required": list(properties),
                "additionalProperties": False,
            },
        },
    }
