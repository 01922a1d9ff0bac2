"""Syntax trees of policies from their texts, by OPA's own parser: from its command line, all files in one
run, or from a running OPA.

Both are the builtin `rego.parse_module`, whose trees carry no places, so the line of each rule is looked up
in the text. Who has the files on the disk and wants every line exact parses them one by one
(`opa/policies/bundle.py`).
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from regate_adapters.opa.acceptance.nodes import Node, own_name
from regate_adapters.opa.client import OpaClient
from regate_orchestrator.errors import PolicyUnavailable
from regate_orchestrator.values import JsonObject

_DEADLINE_SECONDS: Final = 30
_AT_ONCE: Final = 256 * 1024
"""Bytes of policies in one question to a running OPA: it works half a second on them, and answers with
about eight times as many.
"""
_PARSED: Final = "[[name, json.marshal(rego.parse_module(name, text))] | some name, text in input]"
_PARSING: Final = (
    "some name, text in input.modules; tree := json.marshal(rego.parse_module(name, text)); parsed = "
    "[name, tree]"
)
_PIECE: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"|`[^`]*`|#[^\n]*|[(\[{]|[)\]}]|\n|[A-Za-z_]\w*|.', re.DOTALL)


class NotParsed(ValueError):
    """A policy that OPA's parser does not take; the message is OPA's."""


def parsed_by_command(opa: Path, texts: Mapping[str, str]) -> dict[str, Node]:
    """Return the tree of each text, by its name. Raises `NotParsed`."""
    command = [str(opa), "eval", "--stdin-input", "--strict-builtin-errors", "--format", "raw", _PARSED]
    given = json.dumps(texts).encode()
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, check=False, timeout=_DEADLINE_SECONDS, env={}
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotParsed(f"opa eval did not run: {error}") from error
    if done.returncode != 0:
        raise NotParsed((done.stderr or done.stdout).decode(errors="replace").strip())
    return _placed(json.loads(done.stdout), texts)


async def parsed_by_server(client: OpaClient, texts: Mapping[str, str]) -> dict[str, Node]:
    """Return the tree of each text, by its name. Raises `NotParsed`, and `PolicyUnavailable` when OPA
    gives no answer of use.
    """
    trees: dict[str, Node] = {}
    for part in _in_parts(texts):
        document: JsonObject = {
            "query": _PARSING,
            "input": {"modules": dict(part)},
            "unknowns": ["input.unknown"],
        }
        reply = await client.post("/v1/compile", document)
        if reply.status != 200:
            raise PolicyUnavailable(
                f"OPA answered {reply.status} when it was to parse its policies: {reply.excerpt}"
            )
        trees |= _placed(_answers(json.loads(reply.body)), part)
    return trees


def _in_parts(texts: Mapping[str, str]) -> Iterator[dict[str, str]]:
    part: dict[str, str] = {}
    size = 0
    for name, text in texts.items():
        if part and size + len(text) > _AT_ONCE:
            yield part
            part, size = {}, 0
        part[name] = text
        size += len(text)
    if part:
        yield part


def _answers(body: Any) -> list[tuple[str, str]]:
    """Return names and trees out of what partial evaluation left of the question: one query for each,
    `parsed = [name, tree]`.
    """
    try:
        queries = body["result"].get("queries", [])
        found = [
            expression["terms"][2]["value"]
            for query in queries
            for expression in query
            if expression["terms"][1]["value"] == "parsed"
        ]
        return [(name["value"], tree["value"]) for name, tree in found]
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise PolicyUnavailable("OPA did not answer as it does when it parses policies") from error


def _placed(answers: list[Any], texts: Mapping[str, str]) -> dict[str, Node]:
    trees: dict[str, Node] = {name: json.loads(tree) for name, tree in answers}
    if lacking := sorted(texts.keys() - trees.keys()):
        raise NotParsed(f"OPA does not parse {', '.join(lacking)}")
    for name, tree in trees.items():
        _place(tree, texts[name])
    return trees


def _place(tree: Node, text: str) -> None:
    """Note on each rule the line that it begins on."""
    starts = _statements(text)
    for rule in tree.get("rules") or ():
        row = next((row for name, row in starts if name == own_name(rule)), None)
        if row is not None:
            rule["location"] = {"row": row}


def _statements(text: str) -> Iterator[tuple[str, int]]:
    """Yield the name that each statement outside of braces begins with, after `default`, and its line."""
    row, depth, begins = 1, 0, True
    for piece in _PIECE.findall(text):
        if piece == "\n":
            row, begins = row + 1, depth == 0
        elif piece[0] in "([{":
            depth, begins = depth + 1, False
        elif piece in (")", "]", "}"):
            depth, begins = depth - 1, False
        elif not piece.isspace() and piece[0] != "#":
            if begins and piece != "default" and piece.isidentifier():
                yield piece, row
            begins = begins and piece == "default"
        row += piece.count("\n") if piece[0] == "`" else 0
