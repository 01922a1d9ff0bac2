"""JSON Schemas inside requests: of tools' parameters and of structured output. A backend may resolve what
they refer to, so that must lie in them.

Validators fetch a reference that leads elsewhere, from where the backend stands in the network. The schemas
are otherwise the backend's to judge.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, TypeAdapter
from pydantic_core import PydanticCustomError

from regate_gateway.http.misfits import misfit
from regate_gateway.http.models import BUILT_LATER, read_as
from regate_orchestrator.values import Json, JsonObject

_MAX_PLACE: Final = 500
_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_BASES: Final = ("$id", "id")
"""What references below it are relative to. At the root `$id` names the schema itself; `id` is its
name in drafts before the sixth.
"""


def require_contained(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema. Raises a misfit for one that refers to anything outside itself."""
    for place, within in _objects(schema):
        for key in _REFERENCES:
            if isinstance(value := within.get(key), str) and not value.startswith("#"):
                raise _leads_elsewhere(f"{place}.{key}")
        for key in _BASES:
            value = within.get(key)
            if isinstance(value, str) and _is_base(key, value) and not (key == "$id" and within is schema):
                raise _leads_elsewhere(f"{place}.{key}")
    return schema


ContainedSchema = Annotated[
    dict[str, Any],
    AfterValidator(require_contained),
    Field(description="A JSON Schema. What it refers to (`$ref`) must lie in it."),
]

_SCHEMA: Final[TypeAdapter[JsonObject]] = TypeAdapter(ContainedSchema, config=BUILT_LATER)


def read_schema(value: Json, *, path: str) -> JsonObject:
    """Return a schema that stands in no model, checked as one that does. Raises `InvalidRequest`."""
    return read_as(_SCHEMA, value, path=path)


def _is_base(key: str, value: str) -> bool:
    # An `id` may also be a value in an example or a default: it is a base only as an address.
    return not value.startswith("#") if key == "$id" else "://" in value


def _objects(schema: JsonObject) -> Iterator[tuple[str, JsonObject]]:
    """Yield every object inside, each with its place; without recursion, as bodies may be deep."""
    waiting: list[tuple[str, Json]] = [("", schema)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, dict):
            yield place, value
            waiting.extend((f"{place}.{key}", inner) for key, inner in value.items())
        elif isinstance(value, list):
            waiting.extend((f"{place}[{position}]", inner) for position, inner in enumerate(value))


def _leads_elsewhere(place: str) -> PydanticCustomError:
    text = (
        "'{place}' must lead to a place in the same schema, such as '#/$defs/name': nothing is fetched on a "
        "request's word."
    )
    return misfit(text, member=place.removeprefix(".")[:_MAX_PLACE])
