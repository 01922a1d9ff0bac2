"""Reading the arguments that a model wrote for a call of ours. Whatever it wrote, reading it fails in
one way: there is no such text.
"""

from __future__ import annotations

import json

from regate_orchestrator.values import JsonObject


def text_among(arguments: str, name: str) -> str | None:
    """Return the text of this name in the arguments; None where they are no JSON object with such a
    text, one that UTF-8 can spell.
    """
    value = object_in(arguments)
    text = None if value is None else value.get(name)
    return text if isinstance(text, str) and is_whole(text) else None


def object_in(arguments: str) -> JsonObject | None:
    """Return the JSON object that the arguments are; None where they are none."""
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):  # the latter for what is nested too deep
        return None
    return value if isinstance(value, dict) else None


def is_whole(text: str) -> bool:
    """Return whether the text holds no lone surrogate, which JSON can escape and nothing can send on."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
