"""Row schemas: which policy fields a row has, and of which type. Read from the JSON schemas in
`rego/schemas/`, which OPA checks too.

The schema makes the *canonical view*: before a row is stored, searched or decided, only declared fields with
the declared type are kept, so that the policy and every store see the same values and missing-key semantics
never decide (DESIGN.md of the filter, ADR 0002).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, cast

from regate_orchestrator.errors import ConfigurationError
from regate_orchestrator.values import Json, JsonObject

FieldType: TypeAlias = Literal["string", "number", "boolean", "list"]


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One policy field. A required field is on every stamped row; a `list` is a list of strings and
    may be empty.
    """

    name: str
    type: FieldType
    required: bool


@dataclass(frozen=True, slots=True)
class RowSchema:
    """The policy fields of one kind of row (`chunk`, `store`, `file`, `item`)."""

    kind: str
    fields: Mapping[str, FieldSpec]

    def canonical(self, values: Mapping[str, Json]) -> dict[str, Json]:
        """Return the canonical view: declared fields whose value has the declared type; all else is
        left out.
        """
        return {
            name: values[name]
            for name, spec in self.fields.items()
            if name in values and _conforms(values[name], spec.type)
        }

    @property
    def digest(self) -> str:
        """Return what tells stamps under these required fields from stamps under others: 16 hexadecimal
        digits. Engines keep it with each chunk.
        """
        required = sorted((spec.name, spec.type) for spec in self.fields.values() if spec.required)
        return hashlib.sha256(repr(required).encode()).hexdigest()[:16]

    def faults(self, values: Mapping[str, Json]) -> list[str]:
        """Return what is wrong with a stamp, in words for an operator; empty when it conforms exactly."""
        unknown = [
            f"{name}: not declared in rego/schemas/{self.kind}.json"
            for name in values
            if name not in self.fields
        ]
        missing = [
            f"{name}: required and missing"
            for name, spec in self.fields.items()
            if spec.required and name not in values
        ]
        wrong = [
            f"{name}: is not a {spec.type}"
            for name, spec in self.fields.items()
            if name in values and not _conforms(values[name], spec.type)
        ]
        return unknown + missing + wrong


def load_schema(path: Path) -> RowSchema:
    """Return the row schema in a JSON schema file whose name says the kind of row. Raises
    `ConfigurationError` when it is no such schema.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} is not a row schema: {error}") from error
    return read_schema(path.stem, content, name=str(path))


def read_schema(kind: str, content: bytes, *, name: str) -> RowSchema:
    """Return the row schema in a JSON schema. Raises `ConfigurationError`, with the name, when it is
    no such schema.
    """
    try:
        document = cast("JsonObject", json.loads(content))
        properties = cast("Mapping[str, Mapping[str, Json]]", document["properties"])
        required = cast("list[str]", document.get("required", []))
        fields = {
            field: FieldSpec(field, _field_type(spec), field in required)
            for field, spec in properties.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{name} is not a row schema: {error}") from error
    return RowSchema(kind, fields)


def _field_type(spec: Mapping[str, Json]) -> FieldType:
    match spec.get("type"):
        case "string":
            return "string"
        case "integer" | "number":
            return "number"
        case "boolean":
            return "boolean"
        case "array":
            return "list"
        case other:
            raise ValueError(f"field type {other!r} is none of string, integer, number, boolean, array")


def _conforms(value: Json, kind: FieldType) -> bool:
    match kind:
        case "string":
            return isinstance(value, str)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 2**53
        case "boolean":
            return isinstance(value, bool)
        case "list":
            return isinstance(value, list | tuple) and all(isinstance(element, str) for element in value)
