"""Hostile inputs: every decision with every part of its input replaced by something of another type, under
strict builtin errors.

The gateway asks with `strict-builtin-errors=true`, where a builtin given the wrong type is an error (503) and
not a mere undefined. Nothing that is stored, claimed or requested may cause that. Says nothing of what is
allowed: the tests do.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import opa

_ODD: Final[tuple[Any, ...]] = (None, True, -1, 0.5, "x", "", [], ["x"], [1], {}, {"x": 1})

_PRINCIPAL: Final = {
    "id": "eve",
    "tenant": "globex",
    "teams": ["ops"],
    "roles": ["guest"],
    "projects": [],
    "namespaces": [],
    "scopes": [],
    "clearance": 1,
    "attrs": {},
}
_ROW: Final = {
    "id": "x_1",
    "tenant": "acme",
    "owner": "ann",
    "visibility": "private",
    "teams": ["eng"],
    "roles": ["clerk"],
    "projects": ["apollo"],
    "namespaces": ["prod"],
    "level": 1,
    "labels": ["hr-only"],
}
_STAMP: Final = _ROW | {"legal_hold": False, "embargo_until": 0}
_TOOL: Final = {"type": "mcp", "server_label": "", "name": "book", "arguments": {}, "side_effect": False}
_RESULT: Final = {"mime": "", "size": 10, "labels": ["hr-only"]}
_REQUESTED: Final = {"visibility": "tenant", "teams": ["eng"], "level": 9, "labels": ["x"], "colour": "red"}

# package -> further input, by action
_BASES: Final[dict[str, tuple[tuple[str, dict[str, Any]], ...]]] = {
    "authn": (
        (
            "authn.principal",
            {
                "method": "jwt",
                "provider": {"name": "idp", "kind": "jwt"},
                "claims": {
                    "sub": "",
                    "tenant": "acme",
                    "teams": ["hr"],
                    "scope": "a b",
                    "cnf": {"x5t#S256": 1},
                },
            },
        ),
        (
            "authn.principal",
            {
                "method": "kubernetes",
                "provider": {"name": "cluster", "kind": "kubernetes"},
                "claims": {"sub": "", "tenant": "acme", "namespace": "n", "groups": ["g"]},
                "peer": {"x5t#S256": "x"},
            },
        ),
    ),
    "quota": (
        (
            "quota.limits",
            {"request": {"method": "GET", "path": "/", "model": "m", "stream": False, "tool_types": []}},
        ),
    ),
    "guard": (
        (
            "guard.check",
            {
                "step": "input",
                "scores": {"injection": 0.5},
                "labels": ["pii"],
                "spans": {"pii": 1},
                "unavailable": [],
            },
        ),
    ),
    "egress": (
        (
            "egress.connect",
            {
                "destination": {
                    "purpose": "page",
                    "scheme": "https",
                    "host": "docs.example.com",
                    "port": 443,
                    "private": False,
                    "operator_named": False,
                }
            },
        ),
    ),
    "admin": (("audit.read", {"operation": {"tenant": "acme"}}),),
    "prompt": (("prompt.read", {"prompt": _ROW}), ("prompt.create", {"requested": _REQUESTED})),
    "route": (
        (
            "route.buy",
            {"request": {"method": "GET", "path": "/", "model": "m", "stream": False, "tool_types": []}},
        ),
    ),
    "store": (
        ("store.search", {"store": _ROW | {"shared": False}}),
        ("store.create", {"requested": _REQUESTED | {"share": "x"}}),
        ("store.update", {"store": _ROW | {"shared": False}, "requested": _REQUESTED}),
    ),
    "file": (("file.read", {"file": _ROW}), ("file.upload", {}), ("file.create", {"requested": _REQUESTED})),
    "chunk": (("chunk.read", {"store": _ROW, "chunk": _ROW | {"legal_hold": True, "embargo_until": 1}}),),
    "tool": (
        ("tool.call", {"tool": _TOOL}),
        ("tool.call", {"tool": _TOOL | {"server_label": "s"}}),
        ("tool.list", {"tools": [_TOOL, _TOOL]}),
        ("tool.result", {"tool": _TOOL, "result": _RESULT}),
    ),
    "history": (("history.reuse", {"item": _ROW}),),
    "ingest": (
        ("ingest.document", {"store": _ROW, "document": {"requested": _REQUESTED, "file": _ROW}}),
        (
            "ingest.document",
            {"store": _ROW, "document": {"requested": _REQUESTED, "file": _ROW}, "attachment": _STAMP},
        ),
    ),
    "lib.batch": (
        (
            "batch",
            {
                "stores": {"s": _ROW},
                "chunks": [{"store": "s", "chunk": _ROW}],
                "items": [_ROW],
                "tool_results": [{"tool": _TOOL, "result": _RESULT}],
                "models": ["m"],
                "store": _ROW,
                "documents": [{"requested": _REQUESTED, "file": _ROW}],
            },
        ),
    ),
}


def check(policies: Path) -> int:
    """Return how many inputs were tried; raises `Fault` when one makes a builtin fail, or two rules
    disagree.
    """
    tried = 0
    for package, bases in _BASES.items():
        inputs = [odd for action, resource in bases for odd in _variants(_document(action, resource))]
        query = (
            f"count([answer | some one in input.inputs; answer := data.regate.{package} with input as one])"
        )
        arguments = (
            "eval",
            "--bundle",
            str(policies),
            "--strict-builtin-errors",
            "--stdin-input",
            "--format",
            "raw",
            query,
        )
        answered = int(opa.call(*arguments, given=json.dumps({"inputs": inputs})))
        if answered != len(inputs):
            raise opa.Fault(
                f"regate.{package}: {len(inputs) - answered} of {len(inputs)} odd inputs have no answer"
            )
        tried += answered
    return tried


def _document(action: str, resource: dict[str, Any]) -> dict[str, Any]:
    return {"v": 1, "now": 1000, "request_id": "r", "action": action, "principal": _PRINCIPAL, **resource}


def _variants(document: dict[str, Any]) -> Iterator[Any]:
    yield document
    for path in _paths(document):
        for odd in _ODD:
            changed = copy.deepcopy(document)
            _holder(changed, path)[path[-1]] = odd
            yield changed


def _paths(tree: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in pairs:
        yield (*above, key)
        yield from _paths(value, (*above, key))


def _holder(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        tree = tree[key]
    return tree
