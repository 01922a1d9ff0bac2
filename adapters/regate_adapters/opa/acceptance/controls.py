"""Controls that a policy asks for and the gateway does not have: refused where policies are loaded, since
nothing would ask for them later.

A rule or a document may be right by every schema and still restrict nothing, because no code acts on it.
Whatever is added to the policies for a part of the gateway that is yet to come has its line here until then.
What the policies want of guards is there at the steps at which one is configured, and at no other. What can
only be known when a decision is made is refused there (`regate_orchestrator.authz.obligations`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Any, Final

import yaml

from regate_adapters.opa.acceptance.findings import Finding
from regate_adapters.opa.acceptance.nodes import Path
from regate_adapters.opa.acceptance.syntax import Definition, Policies
from regate_orchestrator.ports import GUARD_STEPS

_NO_GUARD: Final = "no guard of this gateway looks there; configure one in guards.providers"

RULES: Final[Mapping[Path, str]] = {
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

_GUARD_RULES: Final[tuple[Path, ...]] = (
    ("data", "regate", "custom", "guard", "block"),
    ("data", "regate", "guard", "action"),
)
"""Rules that say what becomes of texts at whichever step."""
SHIPPED_GUARDS: Final = ("8b01827ef6e90e5c1f9f5a84b6133ac6a985a657a53954907420e6c045c31607",)
"""Digests of the texts of `regate.guard` that ship: what they want is seen in the thresholds and in
`regate.custom.guard`.
"""
_DATA: Final = ("data.json", "data.yaml", "data.yml")
_PASSES: Final = {"type": "string", "value": "pass"}


def control_findings(
    policies: Policies, files: Mapping[str, bytes], *, guarded: Collection[str]
) -> Iterator[Finding]:
    """Yield what the policies ask for in vain. `files` are all that they are made of, by name: modules
    and documents; `guarded` are the steps at which a guard looks at texts.
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
    unguarded = [step for step in GUARD_STEPS if step not in guarded]
    if unguarded:
        yield from _of_guard_rules(policies, files, unguarded)
    for name, content in sorted(files.items()):
        if PurePosixPath(name).name in _DATA:
            yield from _in_document(name, content, unguarded)


def _gives_nothing(definition: Definition) -> bool:
    return definition.is_default and definition.value == {"type": "boolean", "value": False}


def _of_guard_rules(
    policies: Policies, files: Mapping[str, bytes], unguarded: Sequence[str]
) -> Iterator[Finding]:
    """Yield the rules that may want something of a text at a step at which nobody looks at it."""
    for rule in _GUARD_RULES:
        for definition in policies.rules.get(rule, ()):
            name = definition.module.file
            passes = definition.value == _PASSES and "else" not in definition.parsed
            is_shipped = sha256(files.get(name, b"")).hexdigest() in SHIPPED_GUARDS
            if passes or is_shipped or _gives_nothing(definition):
                continue
            yield Finding(
                "no-such-control",
                f"{'.'.join(rule[1:])} asks in vain at {', '.join(unguarded)}: {_NO_GUARD}, or leave it out",
                name,
                definition.row,
            )
            break


# ---------------------------------------------------------------- operators' documents


def _in_document(name: str, content: bytes, unguarded: Collection[str]) -> Iterator[Finding]:
    document = _placed(name, content)
    regate = document.get("regate") if isinstance(document, dict) else None
    if not isinstance(regate, dict):
        return
    for keys, advice in _of_guards(regate.get("guard_thresholds"), unguarded):
        message = f"data.regate.{'.'.join(keys)} asks in vain: {advice}"
        yield Finding("no-such-control", message, name, _line_of(keys, content.decode(errors="replace")))


def _of_guards(thresholds: Any, unguarded: Collection[str]) -> Iterator[tuple[Sequence[str], str]]:
    for step, limits in _entries(thresholds):
        for kind, listed in _entries(limits):
            if listed and step in unguarded:
                yield ("guard_thresholds", step, kind), f"{_NO_GUARD}, or leave it empty"


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
