"""JSON Schemas inside requests: of tools' parameters and of structured output. A backend may resolve what
they refer to, so that must lie in them.

Validators fetch a reference that leads elsewhere, from where the backend stands in the network. The schemas
are otherwise the backend's to judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from regate_gateway.http.fields import Fields
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.values import Json, JsonObject

_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_BASES: Final = ("$id", "id")
"""What references below it are relative to. At the root `$id` names the schema itself; `id` is its
name in drafts before the sixth.
"""


def read_schema(fields: Fields, name: str) -> JsonObject:
    """Return a required schema. Raises `InvalidRequest` for one that refers to anything outside itself."""
    schema = fields.object(name).values
    root = fields.param(name)
    for place, within in _objects(schema, root):
        for key in _REFERENCES:
            if isinstance(value := within.get(key), str) and not value.startswith("#"):
                raise _leads_elsewhere(f"{place}.{key}")
        for key in _BASES:
            value = within.get(key)
            if isinstance(value, str) and _is_base(key, value) and not (key == "$id" and within is schema):
                raise _leads_elsewhere(f"{place}.{key}")
    return schema


def _is_base(key: str, value: str) -> bool:
    # An `id` may also be a value in an example or a default: it is a base only as an address.
    return not value.startswith("#") if key == "$id" else "://" in value


def _objects(schema: JsonObject, root: str) -> Iterator[tuple[str, JsonObject]]:
    """Yield every object inside, each with its place; without recursion, as bodies may be deep."""
    waiting: list[tuple[str, Json]] = [(root, schema)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, Mapping):
            yield place, value
            waiting.extend((f"{place}.{key}", inner) for key, inner in value.items())
        elif isinstance(value, Sequence) and not isinstance(value, str):
            waiting.extend((f"{place}[{position}]", inner) for position, inner in enumerate(value))


def _leads_elsewhere(place: str) -> InvalidRequest:
    message = (
        f"'{place[:500]}' must lead to a place in the same schema, such as '#/$defs/name': nothing is "
        "fetched on a request's word."
    )
    return InvalidRequest(message, param=place[:500], code="invalid_value")
