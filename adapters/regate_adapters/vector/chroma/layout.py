"""How a chunk lies in Chroma's metadata, and how it is read back. The counterpart is `filter.py`, which asks
about what lies here.

Chroma 1.5.9 cannot store an empty list; cannot ask whether a key exists; cuts the fraction off an operand
before it compares it with a stored integer (`$eq 1.5` finds 1); compares floats exactly but reads some back
with another last digit; and has no index on booleans. So empty lists and booleans are reserved strings, the
type of every field that may be absent is listed under `_gw_types`, and numbers are stored as floats for
comparing and as JSON under `_gw_numbers` for reading back. None of this is ever shown.

Chroma keeps the metadata of all collections in one table and finds the rows for a key and a value before it
looks at the collection. So every key starts with a prefix of its store: what a search costs then depends on
the rows of that store (measured: 3 ms against 57 ms, for 2,000 rows beside 18,000 of nine other stores). The
prefix is for speed alone; the collection is what keeps stores apart.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias, cast

from regate_orchestrator.errors import ConfigurationError, VectorStoreUnavailable
from regate_orchestrator.filters.expression import Field, Scalar
from regate_orchestrator.filters.schema import FieldType, RowSchema
from regate_orchestrator.ports import Candidate, Chunk
from regate_orchestrator.values import FileId, Json, StoreId

Stored: TypeAlias = str | int | float | bool | list[str]
Metadata: TypeAlias = dict[str, Stored]

VERSION_KEY: Final = "_gw_schema"
TYPES_KEY: Final = "_gw_types"
NUMBERS_KEY: Final = "_gw_numbers"
FILE_KEY: Final = "file_id"
INDEX_KEY: Final = "index"
EMPTY: Final = "\x00empty"
TRUE: Final = "\x00true"
FALSE: Final = "\x00false"
RESERVED: Final = frozenset({EMPTY, TRUE, FALSE})
LARGEST: Final = 2**53

_LAYOUT: Final = "1"
_ATTRIBUTE: Final = "attributes."
_OWN_KEYS: Final = frozenset({VERSION_KEY, TYPES_KEY, NUMBERS_KEY, FILE_KEY, INDEX_KEY, "attributes"})
_FIELD_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_SCALARS: Final[tuple[FieldType, ...]] = ("boolean", "number", "string")


@dataclass(frozen=True, slots=True)
class StoredField:
    """Where a field lies, and the types its value may have. A field that is not `required` may be absent."""

    key: str
    types: tuple[FieldType, ...]
    required: bool

    def mark(self, kind: FieldType) -> str:
        """Return the element of `_gw_types` which says that the field is there with this type."""
        return f"{kind}:{self.key}"


@dataclass(frozen=True, slots=True)
class ChromaLayout:
    """The layout for one row schema, in one store once `at` has been called. Make with `of`."""

    schema: RowSchema
    fields: Mapping[str, StoredField]
    version: str
    """Written on every chunk and conjoined to every filter: chunks stamped under other required fields
    are not seen at all.
    """
    prefix: str = ""

    @classmethod
    def of(cls, schema: RowSchema) -> ChromaLayout:
        """Return the layout. Raises `ConfigurationError` when a field of the schema would take a name
        that the layout needs.
        """
        for name in schema.fields:
            if name in _OWN_KEYS or not _FIELD_NAME.fullmatch(name):
                raise ConfigurationError(
                    f"rego/schemas/{schema.kind}.json: the field name {name!r} cannot be stored in Chroma"
                )
        fields = {
            name: StoredField(name, (spec.type,), spec.required) for name, spec in schema.fields.items()
        }
        return cls(schema, fields, f"{_LAYOUT}:{schema.digest}")

    def at(self, store: StoreId) -> ChromaLayout:
        """Return the layout with the store's own keys."""
        return replace(self, prefix=hashlib.sha256(store.encode(errors="replace")).hexdigest()[:12] + ".")

    def field(self, path: Field) -> StoredField | None:
        """Return where the field lies; None for a path under which nothing is ever stored."""
        match path:
            case (name,):
                return self.fields.get(name)
            case ("attributes", key):
                return StoredField(_ATTRIBUTE + key, _SCALARS, required=False)
            case _:
                return None

    def metadata(self, chunk: Chunk) -> Metadata:
        """Return what is written for the chunk. Raises `VectorStoreUnavailable` when its stamp does
        not conform to the schema exactly.
        """
        if faults := self.schema.faults(chunk.stamp):
            raise VectorStoreUnavailable(f"chunk {chunk.id} is not stamped as declared: {'; '.join(faults)}")
        marks = [EMPTY]
        values: dict[str, Json] = {}
        for name, value in chunk.stamp.items():
            field = self.fields[name]
            values[field.key] = value
            if not field.required:
                marks.append(field.mark(field.types[0]))
        # Chroma gives a record without a list that of a record which was deleted, at times.
        values |= {
            name: []
            for name, spec in self.schema.fields.items()
            if spec.type == "list" and name not in values
        }
        for name, scalar in chunk.attributes.items():
            field = StoredField(_ATTRIBUTE + name, _SCALARS, required=False)
            values[field.key] = scalar
            marks.append(field.mark(_scalar_type(scalar)))
        stored: Metadata = {
            VERSION_KEY: self.version,
            FILE_KEY: chunk.file_id,
            INDEX_KEY: chunk.index,
            TYPES_KEY: marks,
            NUMBERS_KEY: json.dumps({key: value for key, value in values.items() if _is_number(value)}),
            **{key: _stored(value, chunk) for key, value in values.items()},
        }
        return {self.prefix + key: value for key, value in stored.items()}

    def candidate(
        self, identifier: str, text: str, metadata: Mapping[str, object], *, score: float
    ) -> Candidate:
        """Return the chunk as it was stored: its stamp in the canonical view, its attributes as the
        client knows them.
        """
        shown = {key.removeprefix(self.prefix): _shown(value) for key, value in metadata.items()}
        shown |= json.loads(str(shown[NUMBERS_KEY]))
        marks = frozenset(cast("list[str]", shown[TYPES_KEY]))
        there = (name for name, one in self.fields.items() if one.required or one.mark(one.types[0]) in marks)
        return Candidate(
            id=identifier,
            file_id=FileId(str(shown[FILE_KEY])),
            index=cast("int", shown[INDEX_KEY]),
            text=text,
            score=score,
            stamp=self.schema.canonical({name: shown[name] for name in there if name in shown}),
            attributes={
                key.removeprefix(_ATTRIBUTE): cast("Scalar", value)
                for key, value in shown.items()
                if key.startswith(_ATTRIBUTE)
            },
        )

    def row(self, candidate: Candidate) -> Mapping[str, object]:
        """Return the chunk as filters see it (`meaning.holds`)."""
        return {**candidate.stamp, "attributes": candidate.attributes}


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _scalar_type(value: Scalar) -> Literal["boolean", "number", "string"]:
    """Return the type of a stored scalar; null is never stored."""
    return "boolean" if isinstance(value, bool) else "string" if isinstance(value, str) else "number"


def stored_boolean(value: bool) -> str:
    """Return the string that stands for the boolean."""
    return TRUE if value else FALSE


def _stored(value: Json, chunk: Chunk) -> Stored:
    match value:
        case bool():
            return stored_boolean(value)
        case str() if value not in RESERVED:
            return value
        case int() | float() if math.isfinite(value) and abs(value) <= LARGEST:
            return float(value)
        case list() | tuple() if RESERVED.isdisjoint(map(str, value)):
            return [str(element) for element in value] or [EMPTY]
        case _:
            raise VectorStoreUnavailable(f"chunk {chunk.id} holds a value that cannot be stored exactly")


def _shown(value: object) -> Json:
    match value:
        case "\x00true":
            return True
        case "\x00false":
            return False
        case ["\x00empty"]:
            return []
        case _:
            return cast("Json", value)
