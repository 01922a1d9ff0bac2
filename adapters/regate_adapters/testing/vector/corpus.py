"""The hostile corpus of the vector store suite: a row schema, chunks as awkward as it allows, and filters
that tell them apart.

Its counterpart is `suite.py`, which asks a store about them. No expected result is written down in either.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from typing import Final, Literal, TypeAlias

from regate_orchestrator.filters.expression import (
    And,
    Compare,
    CompareFields,
    Defined,
    Expression,
    Field,
    In,
    NonEmpty,
    Not,
    Operator,
    Or,
    Ordered,
    Ordering,
    Overlaps,
    Scalar,
    Text,
    TextOperator,
    Truthy,
)
from regate_orchestrator.filters.schema import FieldSpec, RowSchema
from regate_orchestrator.ports import Chunk
from regate_orchestrator.values import FileId, Json

Exemption: TypeAlias = Literal["text", "string_order", "two_fields", "undeclared"]
"""What an adapter may be unable to express: string predicates on strings; orderings of strings; two
fields; fields not in the schema.
"""

DIMENSIONS: Final = 8
_OPERATORS: Final[tuple[Operator, ...]] = ("eq", "ne", "lt", "le", "gt", "ge")
_ORDERINGS: Final[tuple[Ordering, ...]] = ("lt", "le", "gt", "ge")
_TEXT_OPERATORS: Final[tuple[TextOperator, ...]] = ("startswith", "endswith", "contains")

SCHEMA: Final = RowSchema(
    "conformance",
    {
        spec.name: spec
        for spec in (
            FieldSpec("tenant", "string", required=True),
            FieldSpec("owner", "string", required=True),
            FieldSpec("level", "number", required=True),
            FieldSpec("legal_hold", "boolean", required=True),
            FieldSpec("teams", "list", required=True),
            FieldSpec("labels", "list", required=True),
            FieldSpec("region", "string", required=False),
            FieldSpec("rank", "number", required=False),
            FieldSpec("public", "boolean", required=False),
            FieldSpec("groups", "list", required=False),
        )
    },
)
"""The row schema that the store under test must be made with."""


# ---------------------------------------------------------------- hostile rows

_STRINGS: Final = (
    "acme",
    "ACME",
    "acme ",
    "",
    "1",
    "true",
    "null",
    "\u00e9",
    "e\u0301",
    "o'neil",
    'q"uote',
    "$or",
    "a\x00b",
    "%",
    "日本",
)
_NUMBERS: Final = (
    0,
    1,
    -1,
    -3,
    2,
    1.5,
    -0.5,
    0.1 + 0.2,
    0.3,
    2**53,
    -(2**53),
    2**53 - 1,
    5e-324,
    1_700_000_000,
)
_NAMES: Final = ("hr", "HR", "eng", "", "1", "$or", "o'neil", "\u00e9", "e\u0301", "a,b", "e")
_KEYS: Final = (
    *("colour", "size", "$or", "tenant", "a.b", "_x", "file_id", "index", "teams", "string:size"),
    *("author name", "\u00e9", "e\u0301", 'o\'neil "x" \\', "\n\u2028日本🔑", "{0}%s:v1;--", "k" * 64),
)


def hostile_chunks(*, tenant: str = "acme", count: int = 60, seed: int = 7) -> list[Chunk]:
    """Return chunks whose fields are as awkward as the schema allows; the ids and vectors differ by
    tenant and seed.
    """
    dice = random.Random(f"{tenant}/{seed}")  # noqa: S311 — repeatable, not secret
    return [_chunk(dice, tenant, number) for number in range(count)]


def _chunk(dice: random.Random, tenant: str, number: int) -> Chunk:
    file = FileId(f"file-{number // 5:08x}")
    stamp: dict[str, Json] = {
        "tenant": tenant if number % 3 else dice.choice(_STRINGS),
        "owner": dice.choice(_STRINGS),
        "level": dice.choice(_NUMBERS),
        "legal_hold": dice.random() < 0.5,
        "teams": dice.sample(_NAMES, dice.choice((0, 0, 1, 2, 4))),
        "labels": dice.sample(_NAMES, dice.choice((0, 1, 3))),
    }
    optional: dict[str, Json] = {
        "region": dice.choice(_STRINGS),
        "rank": dice.choice(_NUMBERS),
        "public": dice.random() < 0.5,
        "groups": dice.sample(_NAMES, dice.choice((0, 1, 2))),
    }
    stamp |= {name: value for name, value in optional.items() if dice.random() < 0.5}
    attributes: dict[str, Scalar] = {
        key: dice.choice((dice.choice(_STRINGS), dice.choice(_NUMBERS), dice.random() < 0.5))
        for key in _KEYS
        if dice.random() < 0.5
    }
    return Chunk(
        f"{tenant}/{file}/{number:06d}",
        file,
        number % 5,
        f"text {number} of {tenant}",
        unit(dice),
        stamp=stamp,
        attributes=attributes,
    )


def unit(dice: random.Random) -> tuple[float, ...]:
    """Return a random vector of unit length."""
    direction = [dice.gauss(0, 1) for _ in range(DIMENSIONS)]
    length = math.hypot(*direction)
    return tuple(one / length for one in direction)


QUERY: Final = unit(random.Random("query"))  # noqa: S311
_FIELDS: Final[tuple[Field, ...]] = (
    *((name,) for name in SCHEMA.fields),
    *(("attributes", key) for key in _KEYS),
)
_FULLY: Final = (*((name,) for name in SCHEMA.fields), ("attributes", "colour"), ("attributes", "size"))


def atoms() -> Iterator[Expression]:
    """Yield every kind of atom on every field, with values of the field's own type and of every other."""
    for field in _FIELDS:
        yield Truthy(field)
        yield Defined(field)
        yield NonEmpty(field)
        for value in _own_values(field):
            yield Compare("eq", field, value)
            yield Compare("ne", field, value)
        for value in ("acme", 1, -0.5, True, False, None) if field in _FULLY else ():
            yield from (Compare(operator, field, value) for operator in _OPERATORS)
        for number in (1, -0.5, 2**53) if field in _FULLY else ():
            yield from (Ordered(ordering, field, number) for ordering in _ORDERINGS)
        yield In(field, ())
        yield In(field, ("acme", 1, True, None, 1.5))
        yield In(field, ("1", "true", "\u00e9"))
        yield Overlaps(field, ())
        yield Overlaps(field, ("hr", "o'neil", 1, None))
        yield Overlaps(field, ("e\u0301",))
        yield from (Text(operator, field, "e") for operator in _TEXT_OPERATORS)
        yield CompareFields("eq", field, ("owner",))
    yield Compare("eq", ("nowhere",), "x")
    yield Compare("eq", ("tenant", "deeper"), "x")


def expression_of_depth(dice: random.Random, atoms: Sequence[Expression], *, depth: int) -> Expression:
    """Return a random expression over the atoms, at most so deep."""
    if depth == 0:
        return dice.choice(atoms)
    match dice.randrange(5):
        case 0 | 1:
            return And(
                tuple(expression_of_depth(dice, atoms, depth=depth - 1) for _ in range(dice.randrange(1, 4)))
            )
        case 2 | 3:
            return Or(
                tuple(expression_of_depth(dice, atoms, depth=depth - 1) for _ in range(dice.randrange(1, 4)))
            )
        case _:
            return Not(expression_of_depth(dice, atoms, depth=depth - 1))


def _own_values(field: Field) -> tuple[Scalar, ...]:
    match field:
        case ("attributes", "colour") | ("owner",) | ("region",):
            return _STRINGS
        case ("attributes", "size") | ("level",) | ("rank",):
            return (*_NUMBERS, 1.0)
        case ("attributes", _):
            return ("$or", "1", 1, 1.5)
        case _:
            return ("acme", "hr")


def exemption(atom: Expression) -> Exemption | None:
    """Return the name under which a store may refuse the atom, or None when every store must express it."""
    match atom:
        case CompareFields():
            return "two_fields"
        case Compare(_, field, _) | In(field, _) | Overlaps(field, _) | Text(_, field, _) if not _is_declared(
            field
        ):
            return "undeclared"
        case Text(_, field, _) if _may_be_text(field):
            return "text"
        case Compare("lt" | "le" | "gt" | "ge", field, str()) if _may_be_text(field):
            return "string_order"
        case _:
            return None


def _is_declared(field: Field) -> bool:
    return (len(field) == 2 and field[0] == "attributes") or (len(field) == 1 and field[0] in SCHEMA.fields)


def _may_be_text(field: Field) -> bool:
    return len(field) == 2 or SCHEMA.fields[field[0]].type == "string"
