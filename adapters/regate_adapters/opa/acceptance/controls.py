"""Controls that a policy asks for and the gateway does not have: refused where policies are loaded, since
nothing would ask for them later.

A rule or a document may be right by every schema and still restrict nothing, because no code acts on it.
Whatever is added to the policies for a part of the gateway that is yet to come has its line here until then.
What can only be known when a decision is made is refused there (`regate_orchestrator.authz.obligations`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Any, Final

import yaml

from regate_adapters.opa.acceptance.findings import Finding
from regate_adapters.opa.acceptance.nodes import Path
from regate_adapters.opa.acceptance.syntax import Definition, Policies

_NO_GUARDS: Final = "guards are not asked in this version, so nothing would be looked at"

RULES: Final[Mapping[Path, str]] = {
    (
        "data",
        "regate",
        "custom",
        "guard",
        "block",
    ): f"{_NO_GUARDS}; deny in regate.custom.route.deny or .chunk.deny, or leave the rule out",
    (
        "data",
        "regate",
        "chunk",
        "redact",
    ): "no part of a chunk is left out in this version; deny the chunk instead",
    (
        "data",
        "regate",
        "custom",
        "chunk",
        "redact",
    ): "no part of a chunk is left out in this version; deny the chunk in regate.custom.chunk.deny",
}
"""Rules that ask for what is not there, and what to do instead."""

SHIPPED_GUARDS: Final = ("fa58f50ce4ba9c26da73c4022021d2ea5321269f6d738a6fc8465497ac38c33f",)
"""Digests of the texts of `regate.guard` that ship: what they demand is seen in the thresholds and in
`regate.custom.guard`.
"""
_GUARD: Final = ("data", "regate", "guard")
_DATA: Final = ("data.json", "data.yaml", "data.yml")
_PASSES: Final = {"type": "string", "value": "pass"}


def control_findings(policies: Policies, files: Mapping[str, bytes]) -> Iterator[Finding]:
    """Yield what the policies ask for in vain. `files` are all that they are made of, by name: modules
    and documents.
    """
    for rule, advice in RULES.items():
        for definition in (
            one for path in policies.named(rule) for one in policies.rules[path] if not _gives_nothing(one)
        ):
            yield Finding(
                "no-such-control",
                f"{'.'.join(rule[1:])} asks in vain: {advice}",
                definition.module.file,
                definition.row,
            )
            break
    yield from _own_guards(policies, files)
    for name, content in sorted(files.items()):
        if PurePosixPath(name).name in _DATA:
            yield from _in_document(name, content)


def _gives_nothing(definition: Definition) -> bool:
    return definition.is_default and definition.value == {"type": "boolean", "value": False}


def _own_guards(policies: Policies, files: Mapping[str, bytes]) -> Iterator[Finding]:
    """Yield guards of a policy's own, unless they let everything pass."""
    for definition in policies.rules.get((*_GUARD, "action"), ()):
        name = definition.module.file
        if definition.value == _PASSES and "else" not in definition.parsed:
            continue
        if sha256(files.get(name, b"")).hexdigest() in SHIPPED_GUARDS:
            continue
        yield Finding(
            "no-such-control",
            f"regate.guard is not the shipped one: {_NO_GUARDS}; keep the shipped file",
            name,
            definition.row,
        )
        return


# ---------------------------------------------------------------- operators' documents


def _in_document(name: str, content: bytes) -> Iterator[Finding]:
    document = _placed(name, content)
    regate = document.get("regate") if isinstance(document, dict) else None
    if not isinstance(regate, dict):
        return
    for keys, advice in _of_guards(regate.get("guard_thresholds")):
        message = f"data.regate.{'.'.join(keys)} asks in vain: {advice}"
        yield Finding("no-such-control", message, name, _line_of(keys, content.decode(errors="replace")))


def _of_guards(thresholds: Any) -> Iterator[tuple[Sequence[str], str]]:
    for step, limits in _entries(thresholds):
        for kind, listed in _entries(limits):
            if listed:
                yield ("guard_thresholds", step, kind), f"{_NO_GUARDS}; leave it empty"


def _entries(document: Any) -> list[tuple[str, Any]]:
    return list(document.items()) if isinstance(document, dict) else []


def _placed(name: str, content: bytes) -> Any:
    """Return a document below the names of its folders, as OPA places it; None for what cannot be
    read, which is refused elsewhere.
    """
    place = PurePosixPath(name)
    try:
        document = json.loads(content) if place.suffix == ".json" else yaml.safe_load(content)
    except (ValueError, yaml.YAMLError):
        return None
    for folder in reversed(place.parent.parts):
        document = {folder: document}
    return document


def _line_of(keys: Sequence[str], text: str) -> int:
    """Return the line on which the last of the keys stands after those before it; keys that the file's
    folders say are not in it.
    """
    lines = text.splitlines()
    found = 0
    for key in keys:
        wanted = (f'"{key}"', f"{key}:")
        found = next(
            (row for row in range(found, len(lines)) if any(one in lines[row] for one in wanted)), found
        )
    return found + 1
