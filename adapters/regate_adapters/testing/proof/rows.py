"""The rows and principals of the proof, as awkward as their universe allows, and the row schema of the
promised one.

In the *dirty* universe nothing is promised of rows: fields are missing, null, or of another type. In the
*typed* one each row conforms to `SCHEMA`, some of whose fields are optional. The counterpart is `grammar.py`,
which writes policies about these fields with values from the same pools, so that filters and rows meet.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Final

from regate_orchestrator.filters.schema import FieldSpec, RowSchema
from regate_orchestrator.principal import Principal
from regate_orchestrator.values import Json, JsonObject

SCALARS: Final[Mapping[str, Sequence[str | int | float | bool]]] = {
    "tenant": ["acme", "globex", "ACME", "caf\u00e9"],
    "owner": ["ann", "bob", "cafe\u0301", "ann "],
    "region": [
        "eu",
        "us",
        "",
        "EU",
        "\u65e5\u672c",
        "\U0001f600",
        "\uffff",
        "caf\u00e9",
        "cafe\u0301",
        "e%_'\"\\",
    ],
    "level": [0, 1, 2, 2.5, 3],
    "score": [-1, 0, 1, 2, 7, 0.1, 0.30000000000000004, 2**53, 2**53 - 1, -(2**53)],
    "hold": [True, False],
}
"""The scalar fields, and the values that rows and policies draw from: look-alikes of each other, and
the edges of what is exact.
"""

LISTS: Final[Mapping[str, Sequence[str]]] = {
    "teams": ["hr", "eng", "ops", "caf\u00e9", "cafe\u0301"],
    "labels": ["pii", "secret", ""],
}
"""The list fields and their elements."""

SCHEMA: Final = RowSchema(
    "chunk",
    {
        spec.name: spec
        for spec in (
            FieldSpec("tenant", "string", required=True),
            FieldSpec("owner", "string", required=True),
            FieldSpec("level", "number", required=True),
            FieldSpec("teams", "list", required=True),
            FieldSpec("hold", "boolean", required=True),
            FieldSpec("region", "string", required=False),
            FieldSpec("score", "number", required=False),
            FieldSpec("labels", "list", required=False),
        )
    },
)
"""What is promised of the rows of the typed universe."""

_STRANGE: Final[list[Json]] = [
    *(None, True, False, 0, 2, 1.0, 2**53 + 1, 1e300, "acme", "", "2", "true", "null"),
    *([], ["hr"], [None], [1], [["hr"]], ["caf\u00e9"], {}, {"k": "hr"}, {"k": {"n": 1}}, {"0": "hr"}),
]


def any_row(source: random.Random) -> JsonObject:
    """Return a row of which nothing is promised."""
    row: dict[str, Json] = {}
    for name in (*SCALARS, *LISTS):
        chance = source.random()
        if chance < 0.15:
            continue
        row[name] = source.choice(_STRANGE) if chance < 0.35 else _value(source, name)
    return row


def typed_row(source: random.Random) -> JsonObject:
    """Return a row that conforms to `SCHEMA`."""
    return {
        name: _value(source, name)
        for name, spec in SCHEMA.fields.items()
        if spec.required or source.random() < 0.6
    }


def some_principal(source: random.Random) -> JsonObject:
    """Return a principal as policies see it, with attributes that may be missing."""
    attrs: dict[str, Json] = {"region": source.choice(SCALARS["region"])} if source.random() < 0.5 else {}
    if source.random() < 0.15:
        attrs["region"] = source.choice((3, ["eu"], {"eu": 1}, True, None))  # a claim may be anything
    return Principal(
        id=source.choice(("ann", "bob")),
        tenant=source.choice(("acme", "globex")),
        teams=tuple(source.sample(LISTS["teams"], source.randint(0, 3))),
        roles=tuple(source.sample(("legal", "store_admin"), source.randint(0, 1))),
        clearance=source.randint(0, 3),
        attrs=attrs,
    ).as_input()


def _value(source: random.Random, name: str) -> Json:
    if name in LISTS:
        return source.sample(LISTS[name], source.randint(0, min(3, len(LISTS[name]))))
    return source.choice(SCALARS[name])
