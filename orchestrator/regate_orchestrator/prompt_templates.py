"""Prompt templates: which variables a template has, and the template with values in their place. No language;
nothing is evaluated.

A variable is written `{{name}}`. It may stand in instructions and in the text of messages, and nowhere else.
A value is put in as it is and never looked at again, so a value that reads `{{other}}` stays that. What else
a template may hold is checked by whoever reads it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, TypeAlias, cast

from regate_orchestrator.errors import InvalidRequest, TooLarge
from regate_orchestrator.values import Json, JsonObject

Value: TypeAlias = str | JsonObject
"""A text, or a content part of a message, such as an image or a file."""

_VARIABLE: Final = re.compile(r"\{\{([A-Za-z_][A-Za-z0-9_-]*)\}\}")
_MAX_NAME: Final = 64
_MAX_VARIABLES: Final = 64
_ROLE_OF_PARTS: Final = "user"

_Path: TypeAlias = tuple[str | int, ...]


def variables_of(template: JsonObject, *, param: str) -> tuple[str, ...]:
    """Return the names of the template's variables, in the order in which they first appear.

    Raises `InvalidRequest` for a variable where none may stand, a name that is too long, and too many of
    them.
    """
    names: dict[str, None] = {}
    for path, text in _strings(template, ()):
        found = _VARIABLE.findall(text)
        if found and not _holds_variables(path):
            place = param + _spelt(path)
            message = (
                f"'{place}' holds a variable, '{found[0][:_MAX_NAME]}': they stand in instructions and in "
                "the text of messages only."
            )
            raise InvalidRequest(message, param=place, code="invalid_value")
        names |= dict.fromkeys(found)
    if any(len(name) > _MAX_NAME for name in names):
        raise InvalidRequest(
            f"Names of variables are at most {_MAX_NAME} characters long.", param=param, code="invalid_value"
        )
    if len(names) > _MAX_VARIABLES:
        raise InvalidRequest(
            f"A template may have at most {_MAX_VARIABLES} variables.", param=param, code="invalid_value"
        )
    return tuple(names)


def require_values(variables: Sequence[str], given: Collection[str], *, param: str) -> None:
    """Raise `InvalidRequest`, naming them all, for variables without a value and for values without a
    variable.
    """
    missing = [name for name in variables if name not in given]
    if missing:
        message = f"The prompt needs a value for {_listed(missing)}."
        raise InvalidRequest(message, param=f"{param}.{missing[0]}", code="missing_required_parameter")
    superfluous = [name[:_MAX_NAME] for name in given if name not in variables]
    if superfluous:
        has = f"its variables are {_listed(variables)}" if variables else "it has none"
        message = f"The prompt has no variable {_listed(superfluous[:_MAX_VARIABLES])}: {has}."
        raise InvalidRequest(message, param=f"{param}.{superfluous[0]}", code="unknown_parameter")


def filled(template: JsonObject, values: Mapping[str, Value], *, most: int, param: str) -> dict[str, Json]:
    """Return the template with each variable replaced by its value; there must be one for each
    (`require_values`).

    Raises `InvalidRequest` for a part in a place for text, and `TooLarge` before the values that are put in
    come to more than `most` bytes.
    """
    filler = _Filler(values, most=most, param=param)
    result = dict(template)
    if isinstance(instructions := template.get("instructions"), str):
        result["instructions"] = filler.text(instructions)
    if "input" in template:
        result["input"] = [filler.message(item) for item in cast("Sequence[JsonObject]", template["input"])]
    return result


class _Filler:
    """Puts values in, counting their bytes at each place, so that a short request cannot become a huge
    prompt.
    """

    def __init__(self, values: Mapping[str, Value], *, most: int, param: str) -> None:
        self._values = values
        self._sizes = {name: _size(value) for name, value in values.items()}
        self._left = most
        self._param = param

    def text(self, text: str) -> str:
        return _VARIABLE.sub(self._inline, text)

    def message(self, item: JsonObject) -> JsonObject:
        role, content = item.get("role"), item.get("content")
        if isinstance(content, str):
            part = self._part_for(content, role)
            return {**item, "content": self.text(content) if part is None else [part]}
        return {
            **item,
            "content": [self._content_part(part, role) for part in cast("Sequence[JsonObject]", content)],
        }

    def _content_part(self, part: JsonObject, role: Json) -> JsonObject:
        text = part.get("text")
        if not isinstance(text, str):
            return part
        return self._part_for(text, role) or {**part, "text": self.text(text)}

    def _part_for(self, text: str, role: Json) -> JsonObject | None:
        """Return the part that stands for the whole text, if the text is one variable and its value is
        a part.
        """
        whole = _VARIABLE.fullmatch(text)
        value = None if whole is None else self._values[whole[1]]
        if whole is None or value is None or isinstance(value, str):
            return None
        if role != _ROLE_OF_PARTS:
            raise self._misplaced(whole[1], f"it stands in a message of role '{role}'")
        self._spend(whole[1])
        return value

    def _inline(self, match: re.Match[str]) -> str:
        value = self._values[match[1]]
        if not isinstance(value, str):
            raise self._misplaced(match[1], "it stands within other text")
        self._spend(match[1])
        return value

    def _spend(self, name: str) -> None:
        self._left -= self._sizes[name]
        if self._left < 0:
            raise TooLarge("The prompt is too large with these values in it.", param=f"{self._param}.{name}")

    def _misplaced(self, name: str, why: str) -> InvalidRequest:
        place = f"{self._param}.{name}"
        return InvalidRequest(
            f"'{place}' must be a string: {why}, where no image or file can be.",
            param=place,
            code="invalid_type",
        )


def _strings(value: Json, path: _Path) -> Iterator[tuple[_Path, str]]:
    """Yield every string of a template with where it is, the names of its objects' members included."""
    match value:
        case str():
            yield path, value
        case Mapping():
            for name, member in value.items():
                yield (*path, name), name
                yield from _strings(member, (*path, name))
        case Sequence():
            for index, member in enumerate(value):
                yield from _strings(member, (*path, index))
        case _:
            pass


def _holds_variables(path: _Path) -> bool:
    match path:
        case ("instructions",) | ("input", int(), "content") | ("input", int(), "content", int(), "text"):
            return True
        case _:
            return False


def _spelt(path: _Path) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step[:_MAX_NAME]}" for step in path)


def _size(value: Value) -> int:
    texts = (
        (value,)
        if isinstance(value, str)
        else tuple(text for text in value.values() if isinstance(text, str))
    )
    return sum(len(text.encode()) for text in texts)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
