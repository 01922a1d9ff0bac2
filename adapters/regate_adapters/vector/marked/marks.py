"""The marks of a chunk: short strings of ASCII that say all that a filter may ask of it. The counterpart is
`filter.py`, which asks.

A mark names a field and what is true of it, as `region=s:eu` or `teams@s:hr`. What is long, or has
characters that some engine may treat in its own way, stands there as its SHA-256. A number has a mark for
each beginning of its 64 bits, in an order in which larger numbers have larger bits, so that a range of
numbers is a list of beginnings: the decomposition of Schindler and Diepenbroek, "Generic XML-based framework
for metadata portals" (2008), which Lucene took up for its numeric ranges.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, cast

from regate_orchestrator.documents.generations import generation_of
from regate_orchestrator.errors import ConfigurationError, VectorStoreUnavailable
from regate_orchestrator.filters.expression import Field, Scalar
from regate_orchestrator.filters.schema import FieldType, RowSchema
from regate_orchestrator.ports import Candidate, Chunk
from regate_orchestrator.values import FileId, Json

LARGEST: Final = 2**53
"""The largest number that is compared exactly; the canonical view holds none that is larger."""

_LAYOUT: Final = "1"
_DIGITS: Final = "0123456789abcdef"
_SIGN: Final = 1 << 63
_ALL_BITS: Final = (1 << 64) - 1
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.-]{0,48}")
_FIELD_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_SCALARS: Final[tuple[FieldType, ...]] = ("boolean", "number", "string")


@dataclass(frozen=True, slots=True)
class MarkedField:
    """A field as marks name it, and the types that its value may have. One that is not `required` may be
    absent.
    """

    name: str
    types: tuple[FieldType, ...]
    required: bool

    def is_a(self, kind: FieldType) -> str:
        """Return the mark of a field that is there with this type."""
        return f"{self.name}:{kind}"

    def not_empty(self) -> str:
        """Return the mark of a list that has an element."""
        return f"{self.name}:some"

    def holding(self, element: str) -> str:
        """Return the mark of a list that has this element."""
        return f"{self.name}@s:{word(element)}"

    def equal(self, value: str | bool | float) -> str:
        """Return the mark of a field that equals the value."""
        match value:
            case bool():
                return f"{self.name}=b:{str(value).lower()}"
            case str():
                return f"{self.name}=s:{word(value)}"
            case _:
                return f"{self.name}/{ordered_digits(value)}"

    def beyond(self, value: float, *, above: bool, inclusive: bool) -> tuple[str, ...]:
        """Return the marks of which a number has one exactly if it is above (or below) the value."""
        digits = ordered_digits(value)
        found = [
            f"{self.name}/{digits[:place]}{other}"
            for place, digit in enumerate(digits)
            for other in (_DIGITS[int(digit, 16) + 1 :] if above else _DIGITS[: int(digit, 16)])
        ]
        return (*found, self.equal(value)) if inclusive else tuple(found)

    def marks_of(self, value: Json) -> Iterator[str]:
        """Yield all marks of a field that has this value."""
        match value:
            case bool():
                yield from (self.is_a("boolean"), self.equal(value))
            case str():
                yield from (self.is_a("string"), self.equal(value))
            case int() | float():
                yield self.is_a("number")
                whole = self.equal(float(value))
                start = len(self.name) + 2
                yield from (whole[:end] for end in range(start, len(whole) + 1))
            case list() | tuple():
                yield self.is_a("list")
                if value:
                    yield self.not_empty()
                yield from (self.holding(str(element)) for element in dict.fromkeys(value))
            case _:
                raise ValueError("not a value that a stamp may hold")


@dataclass(frozen=True, slots=True)
class Marking:
    """How the chunks of one row schema are marked, written down, and read back. Make with `of`."""

    schema: RowSchema
    fields: Mapping[str, MarkedField]
    version: str
    """The mark of chunks that were stamped under the present required fields; others are not found at all."""

    @classmethod
    def of(cls, schema: RowSchema) -> Marking:
        """Return the marking. Raises `ConfigurationError` for a field whose name marks cannot carry."""
        for name in schema.fields:
            if not _FIELD_NAME.fullmatch(name):
                raise ConfigurationError(
                    f"rego/schemas/{schema.kind}.json: the field name {name!r} cannot be stored"
                )
        fields = {
            name: MarkedField(name, (spec.type,), spec.required) for name, spec in schema.fields.items()
        }
        return cls(schema, fields, f".version={_LAYOUT}-{schema.digest}")

    def field(self, path: Field) -> MarkedField | None:
        """Return the field at the path; None where nothing is ever stored."""
        match path:
            case (name,):
                return self.fields.get(name)
            case ("attributes", key):
                return _attribute(key)
            case _:
                return None

    def marks(self, chunk: Chunk) -> tuple[str, ...]:
        """Return the marks of a chunk. Raises `VectorStoreUnavailable` when its stamp is not as declared."""
        if faults := self.schema.faults(chunk.stamp):
            raise VectorStoreUnavailable(f"chunk {chunk.id} is not stamped as declared: {'; '.join(faults)}")
        found = [
            self.version,
            of_id(chunk.id),
            of_file(chunk.file_id),
            of_generation(generation_of(chunk.id)),
        ]
        for name, value in chunk.stamp.items():
            found += self.fields[name].marks_of(value)
        for name, scalar in chunk.attributes.items():
            if isinstance(scalar, float) and not abs(scalar) <= LARGEST:
                raise VectorStoreUnavailable(f"chunk {chunk.id} holds a number that is not compared exactly")
            found += _attribute(name).marks_of(scalar)
        return tuple(found)

    def document(self, chunk: Chunk) -> str:
        """Return the chunk as it is written down, all but its id and vector."""
        return json.dumps(
            [chunk.file_id, chunk.index, chunk.text, dict(chunk.stamp), dict(chunk.attributes)],
            separators=(",", ":"),
        )

    def chunk(self, identifier: str, document: str) -> Chunk:
        """Return the chunk that was written down so, without its vector."""
        file, index, text, stamp, attributes = json.loads(document)
        return Chunk(identifier, FileId(file), index, text, (), stamp, cast("dict[str, Scalar]", attributes))

    def candidate(self, identifier: str, document: str, *, score: float) -> Candidate:
        """Return the chunk as a search shows it: its stamp in the canonical view."""
        one = self.chunk(identifier, document)
        stamp = self.schema.canonical(one.stamp)
        return Candidate(one.id, one.file_id, one.index, one.text, score, stamp, one.attributes)


def of_id(identifier: str) -> str:
    """Return the mark of the chunk with this id."""
    return f".id={word(identifier)}"


def of_file(file: FileId) -> str:
    """Return the mark of the file's chunks."""
    return f".file={word(file)}"


def of_generation(generation: str) -> str:
    """Return the mark of the generation's chunks."""
    return f".generation={word(generation)}"


def word(text: str) -> str:
    """Return what stands for a text in a mark: itself, or its digest where it is long or not plain ASCII."""
    if _PLAIN.fullmatch(text):
        return text
    return "#" + hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:40]


def ordered_digits(value: float) -> str:
    """Return 16 hexadecimal digits for a finite number, in the order of numbers. Both zeros are one."""
    (bits,) = struct.unpack(">Q", struct.pack(">d", value + 0.0))
    return f"{bits ^ (_ALL_BITS if bits & _SIGN else _SIGN):016x}"


def _attribute(name: str) -> MarkedField:
    return MarkedField(f"attributes.{word(name)}", _SCALARS, required=False)
