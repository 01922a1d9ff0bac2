"""Small policy directories for the tests of the OPA adapter, and filter expressions in short writing."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from regate_adapters.opa.policies.bundle import build_bundle
from regate_adapters.opa.policies.signed import read_bundle
from regate_adapters.opa.policies.source import read_source
from regate_orchestrator.filters.expression import (
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


def bundle_with(
    policies: Path,
    changes: Mapping[str, str],
    target: Path,
    *,
    opa: Path,
    revision: str,
    token: str | None = None,
    data: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """Write a bundle of the policies with files and data that `build_bundle` would have refused, as
    somebody makes by hand; return its path.
    """
    plain = target.with_name("plain.tar.gz")
    build_bundle(read_source(policies), plain, opa=opa, gateway_token=token, revision=revision)
    files = read_bundle(plain) | {name: text.encode() for name, text in changes.items()}
    documents = json.loads(files["data.json"])
    documents["regate"] |= data
    files["data.json"] = json.dumps(documents).encode()
    beside = target.with_name(f"{target.name}.next")
    with tarfile.open(beside, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return beside.replace(target)


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
