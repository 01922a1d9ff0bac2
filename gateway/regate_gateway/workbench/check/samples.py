"""Whom the filters are compiled for: a few principals that differ in what makes a filter large or empty, and
those of a file.

They stand for callers; nobody real is among them. What they are asked about is generated in `agreement.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from regate_adapters.opa.acceptance.nodes import nodes
from regate_adapters.opa.acceptance.syntax import Policies
from regate_orchestrator.principal import Principal, is_name, read_principal
from regate_orchestrator.spelling import nearest

TENANT: Final = "acme"
_MANY: Final = 50
_MAX_NAMES: Final = 200


@dataclass(frozen=True, slots=True)
class Sample:
    """A principal, and the name it is reported by."""

    name: str
    principal: Principal


def built_in_samples(policies: Policies, documents: Sequence[Any]) -> list[Sample]:
    """Return the built-in principals: without groups, with few, with many, with every name that
    policies and data mention, and a stranger.
    """
    few = ("hr", "eng")
    many = tuple(f"group-{number}" for number in range(_MANY))
    names = tuple(sorted({*_names_in_data(documents), *_names_in_rules(policies)})[:_MAX_NAMES])
    return [
        Sample("no groups", Principal("nia", TENANT)),
        Sample("few groups", Principal("fay", TENANT, few, ("editor",), ("apollo",), ("prod",))),
        Sample(
            "few, cleared", Principal("cleo", TENANT, few, ("editor",), ("apollo",), ("prod",), clearance=3)
        ),
        Sample("many groups", Principal("max", TENANT, many, many, many, many, clearance=3)),
        Sample("all names", Principal("ada", TENANT, names, names, names, names, names, clearance=3)),
        Sample(
            "other tenant", Principal("fay", "globex", few, ("editor",), ("apollo",), ("prod",), clearance=3)
        ),
    ]


def read_samples(path: Path) -> list[Sample]:
    """Return the principals of a JSON file: a list of principals as policies see them, each with a `name` of
    its own if wanted.

    Raises `click.UsageError` that says which entry is none.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise click.UsageError(f"--samples {path}: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise click.UsageError(f"--samples {path}: must be a list of principals that is not empty")
    return [
        _sample(entry, f"--samples {path}, entry {number}") for number, entry in enumerate(entries, start=1)
    ]


def principal_in(entry: Any, place: str, *, beside: Sequence[str] = ()) -> Principal:
    """Return the principal that somebody wrote down. Raises `click.UsageError` for anything else, and
    says that it stands at this place.
    """
    try:
        return written_principal(entry, beside=beside)
    except ValueError as error:
        raise click.UsageError(f"{place}: {error}") from None


def written_principal(entry: Any, *, beside: Sequence[str] = ()) -> Principal:
    """Return the principal that somebody wrote down. Raises `ValueError`, in words, for anything else, a
    misspelt key included.

    `beside` are keys that may stand in it and are no part of it.
    """
    principal = read_principal(entry)
    if principal is None:
        raise ValueError(
            "is no principal: needs id and tenant (names), and may have teams, roles, projects, "
            "namespaces, scopes (lists of names), "
            "clearance (a whole number), attrs (an object)"
        )
    known = principal.as_input().keys()
    for key in entry.keys() - known - set(beside):
        near = nearest(key, known)
        advice = f"there are {', '.join(known)}" if near is None else f"did you mean {near!r}?"
        raise ValueError(f"a principal has no {key!r}; {advice}")
    return principal


def _sample(entry: Any, place: str) -> Sample:
    principal = principal_in(entry, place, beside=("name",))
    return Sample(str(entry.get("name", f"{principal.id}@{principal.tenant}")), principal)


def _names_in_data(value: Any) -> Iterator[str]:
    match value:
        case dict():
            for key, inner in value.items():
                yield from (key for _ in (0,) if is_name(key))
                yield from _names_in_data(inner)
        case list():
            for inner in value:
                yield from _names_in_data(inner)
        case str() if is_name(value):
            yield value
        case _:
            pass


def _names_in_rules(policies: Policies) -> Iterator[str]:
    """Yield the names that stand in tests of rules: `"legal" in input.principal.roles` makes one
    wonder what a holder of it may see.
    """
    bodies: Sequence[Any] = [rule.get("body") for module in policies.modules for rule in module.rules]
    for node in nodes(bodies):
        terms = node.get("terms")
        for term in terms[1:] if isinstance(terms, list) else ():
            if term.get("type") == "string" and is_name(term["value"]):
                yield term["value"]
