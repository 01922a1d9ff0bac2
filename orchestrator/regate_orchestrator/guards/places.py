"""Texts within JSON: where they are, and the same JSON with others in their place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias, cast

from regate_orchestrator.values import Json, JsonObject

Place: TypeAlias = tuple[str | int, ...]
"""The names and positions that lead to a text."""
WORDS: Final = ("text", "refusal")
"""The members of a part of content in which its text is."""


def texts_in(value: Json, at: Place) -> list[Place]:
    """Return where the texts of a list, or of an object, at this place are."""
    if isinstance(value, str):
        return [at]
    if isinstance(value, Mapping):
        return [found for name, one in value.items() for found in texts_in(one, (*at, name))]
    if isinstance(value, list | tuple):
        return [found for position, one in enumerate(value) for found in texts_in(one, (*at, position))]
    return []


def places_in_content(content: Json, at: Place) -> Iterator[Place]:
    """Yield where the texts of a message's content are: a text, or texts and parts with texts."""
    if isinstance(content, str):
        yield at
    elif isinstance(content, list | tuple):
        for position, part in enumerate(content):
            if isinstance(part, str):
                yield (*at, position)
            elif isinstance(part, Mapping):
                yield from ((*at, position, name) for name in WORDS if isinstance(part.get(name), str))


def text_at(value: Json, place: Place) -> str:
    """Return the text at this place."""
    for step in place:
        value = cast("Mapping[str | int, Json]", value)[step]
    return str(value)


def with_text(value: JsonObject, place: Place, text: str) -> JsonObject:
    """Return the object with this text at the place; nothing of the one that was given is changed."""
    return cast("JsonObject", _with(value, place, text))


def is_json(text: str) -> bool:
    """Return whether the text is JSON."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _with(value: Json, place: Place, text: str) -> Json:
    if not place:
        return text
    step, *rest = place
    if isinstance(value, Mapping):
        return {**value, str(step): _with(value[str(step)], tuple(rest), text)}
    held = list(cast("Sequence[Json]", value))
    held[int(step)] = _with(held[int(step)], tuple(rest), text)
    return held
