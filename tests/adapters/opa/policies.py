"""Small policy directories for the tests of the OPA adapter, and filter expressions in short writing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from regate_orchestrator.filters import (
    And,
    Compare,
    CompareFields,
    Constant,
    Defined,
    Expression,
    Field,
    In,
    NonEmpty,
    Not,
    Or,
    Ordered,
    Overlaps,
    Text,
    Truthy,
)

# As in the shipped policies: the gateway's token opens decisions and compilation, and nothing else.
AUTHZ = """package system.authz

default allow := false

allow if {
	input.identity == data.system.gateway_token
	input.method == "POST"
	array.slice(input.path, 0, 3) == ["v1", "data", "regate"]
}

allow if {
	input.identity == data.system.gateway_token
	input.method == "POST"
	input.path == ["v1", "compile"]
}
"""

CHUNK = """package regate.chunk

default allow := false

allow if {
	input.chunk.tenant == input.principal.tenant
	shared
	not denied
}

shared if input.chunk.visibility == "tenant"

shared if {
	some team in input.chunk.teams
	team in input.principal.teams
}

denied if {
	some label in input.chunk.labels
	label in restricted
}

restricted contains label if some label in ["secret", "pii"]

deny_reasons contains "other tenant" if not _same_tenant

_same_tenant if input.chunk.tenant == input.principal.tenant
"""


def write_policies(directory: Path, files: Mapping[str, str]) -> Path:
    """Write the files and `system.authz` below the directory, which is returned."""
    for name, text in {"system/authz.rego": AUTHZ, **files}.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return directory


def short(expression: Expression) -> str:
    """Return the expression in the short writing that the tables use."""
    match expression:
        case Constant(holds):
            return "ALWAYS" if holds else "NEVER"
        case And(parts):
            return f"({' & '.join(map(short, parts))})"
        case Or(parts):
            return f"({' | '.join(map(short, parts))})"
        case Not(part):
            return f"!{short(part)}"
        case Compare(operator, field, value) | Ordered(operator, field, value):
            return f"{_dotted(field)} {operator} {json.dumps(value)}"
        case CompareFields(operator, left, right):
            return f"{_dotted(left)} {operator} {_dotted(right)}"
        case In(field, values):
            return f"{_dotted(field)} in {json.dumps(values)}"
        case Overlaps(field, values):
            return f"{_dotted(field)} overlaps {json.dumps(values)}"
        case Text(operator, field, value):
            return f"{operator}({_dotted(field)}, {json.dumps(value)})"
        case Truthy(field):
            return f"truthy({_dotted(field)})"
        case Defined(field):
            return f"defined({_dotted(field)})"
        case NonEmpty(field):
            return f"nonempty({_dotted(field)})"


def _dotted(field: Field) -> str:
    return ".".join(field)
