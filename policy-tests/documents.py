"""Operators' documents: every one has a schema, every schema a document, and the document matches it.
The types of rules are OPA's to check.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import opa

# Everything below data.regate that is no rule, and what the schemas, given as input, find wrong with it.
_QUERY: Final = """{
    "wrong": [sprintf("%s: %s: %s", [name, fault.field, fault.desc]) |
        some name, schema in input
        [_, faults] := json.match_schema(json.marshal(data.regate[name]), schema)
        some fault in faults
    ],
    "names": object.keys(data.regate),
}"""


def faults(policies: Path) -> Iterator[str]:
    """Yield what is wrong with each document in a policy directory, in words that name it."""
    schemas = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in (policies / "schemas" / "operators").glob("*.json")
    }
    arguments = (
        "eval",
        "--data",
        *_data_arguments(policies),
        "--strict-builtin-errors",
        "--stdin-input",
        "--format",
        "raw",
        _QUERY,
    )
    found = opa.read(*arguments, given=json.dumps(schemas))
    yield from (f"data.regate.{fault}" for fault in found["wrong"])
    yield from (
        f"data.regate.{name}: has no schema in schemas/operators"
        for name in sorted(set(found["names"]) - set(schemas))
    )
    yield from (
        f"data.regate.{name}: is missing, so what it restricts is free"
        for name in sorted(set(schemas) - set(found["names"]))
    )


def count(policies: Path) -> int:
    """Return how many documents have a schema."""
    return len(list((policies / "schemas" / "operators").glob("*.json")))


def _data_arguments(policies: Path) -> tuple[str, ...]:
    return (str(policies), "--ignore", "schemas", "--ignore", "*.rego")
