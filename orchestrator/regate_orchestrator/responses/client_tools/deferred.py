"""Tools that are not offered at first: which there are, which were found, and the search for them. Pure.

What was found is in the context, in the outputs of `tool_search`, and nowhere else: it is offered for as long
as that output may be used. Tools that policy hides are neither named nor found.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final, cast

from regate_orchestrator.responses.client_tools.described import described_in
from regate_orchestrator.responses.client_tools.tool_search import HOSTED_SEARCH, TOOL_SEARCH, names_in
from regate_orchestrator.responses.request import ClientTool, ResponseRequest
from regate_orchestrator.responses.tools.wire import wire_name
from regate_orchestrator.values import Json, JsonObject

MOST_FOUND: Final = 8
"""Tools that one search finds at most."""
_MOST_DESCRIBED: Final = 256
"""Tools that clients found which are offered at most, the last ones."""
_MOST_TOLD: Final = 4_000
"""Characters in which a model is told what there is to find."""
_MOST_ABOUT: Final = 200
_MOST_WORDS: Final = 200
_MOST_WANTED: Final = 16
_LONGEST: Final = 40
_IN_NAME: Final = 4.0
_IN_GROUP: Final = 2.0
_WORD: Final = re.compile(r"[^\W_]+")
_JOINT: Final = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=\D)(?=\d)|(?<=\d)(?=\D)")
"""Where words meet that are written as one: `getCustomer`, `HTTPFetch`, `fetch2`."""
_SHORTEST: Final = 3
"""Letters of a word that may stand for a longer one."""


@dataclass(frozen=True, slots=True)
class Found:
    """What searches found: the names by which a model calls the tools, and those that clients described."""

    names: frozenset[str] = frozenset()
    tools: Mapping[str, ClientTool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Deferred:
    """A tool that can be found. `group` is its namespace, or the label of its server."""

    wire: str
    name: str
    about: str
    group: str = ""
    group_about: str = ""


def found_in(items: Iterable[JsonObject]) -> Found:
    """Return what the outputs of searches among these items found."""
    names: set[str] = set()
    tools: dict[str, ClientTool] = {}
    for item in items:
        if item["type"] == TOOL_SEARCH.output_type:
            names.update(names_in(item))
            if item.get("execution") == "client":
                tools |= {tool.wire: tool for tool in described_in(item["tools"])}
    return Found(frozenset(names), dict(list(tools.items())[-_MOST_DESCRIBED:]))


def offered(
    request: ResponseRequest, hidden: Collection[str], found: Found, *, is_last_round: bool
) -> dict[str, ClientTool]:
    """Return the client's tools that the model may call, by wire name: those that policy shows and
    `tool_choice` permits, and that are not deferred, or were found.
    """
    if request.tool_choice == "none":
        return {}
    tools: dict[str, ClientTool] = {}
    for tool in (*request.client_tools, *found.tools.values()):
        wire = tool.wire
        if wire in hidden or wire in tools or request.runs_here(wire):
            continue
        if tool.kind is HOSTED_SEARCH:
            left = [] if is_last_round else deferred(request, hidden, found)
            tools |= {wire: replace(tool, description=_told(left))} if left else {}
        elif tool.kind is TOOL_SEARCH or (request.permits(wire) and is_loaded(request, tool, wire, found)):
            tools[wire] = tool
    return tools


def is_loaded(request: ResponseRequest, tool: ClientTool, wire: str, found: Found) -> bool:
    """Return whether a tool is offered that may be deferred: one that must be called is."""
    return not (tool.is_deferred and request.searches) or wire in found.names or wire == request.must_call


def deferred(request: ResponseRequest, hidden: Collection[str], found: Found) -> list[Deferred]:
    """Return what is left to be found of what the request defers."""
    groups = {
        cast("str", one["name"]): cast("str", one.get("description") or "")
        for one in request.tools_echo
        if one["type"] == "namespace"
    }
    left = [
        Deferred(tool.wire, tool.name, _words_of(tool.description, tool.parameters), tool.namespace or "",
                 groups.get(tool.namespace or "", ""))
        for tool in request.client_tools
        if not is_loaded(request, tool, tool.wire, found)
    ]  # fmt: skip
    for server in request.server_tools:
        if server.is_deferred:
            label = cast("str", server.echo["server_label"])
            about = cast("str", server.echo.get("server_description") or "")
            for wire, offer in server.functions.items():
                function = cast("JsonObject", offer["function"])
                words = _words_of(function.get("description"), function.get("parameters"))
                name = cast("str", server.called(wire)["name"])
                left.append(Deferred(wire, name, words, label, about))
    return [
        one
        for one in left
        if one.wire not in hidden and one.wire not in found.names and request.permits(one.wire)
    ]


def search(query: str, left: Sequence[Deferred]) -> list[str]:
    """Return the wire names of the tools that a query is about, the best first.

    A word counts more where it is in a tool's name than in that of its group or in what is said of it, and
    the more the fewer tools it is in.
    """
    wanted = dict.fromkeys(word[:_LONGEST] for word in _words(query)[:_MOST_WANTED])
    read = [
        (one, _sorted(one.name), _sorted(f"{one.group} {one.group_about}"), _sorted(one.about))
        for one in left
    ]
    scores = dict.fromkeys((one.wire for one in left), 0.0)
    for word in wanted:
        weights = {
            one.wire: _IN_NAME * _has(word, name) + _IN_GROUP * _has(word, group) + _has(word, about)
            for one, name, group, about in read
        }
        hits = sum(weight > 0 for weight in weights.values())
        for wire, weight in weights.items():
            scores[wire] += weight * math.log(1 + len(left) / hits) if hits else 0.0
    ranked = sorted((wire for wire in scores if scores[wire] > 0), key=lambda wire: -scores[wire])
    return ranked[:MOST_FOUND]


def shown(request: ResponseRequest, wires: Collection[str]) -> list[JsonObject]:
    """Return these tools of the request in the shape in which the API shows what a search found."""
    narrowed = [_only(request, tool, wires) for tool in request.tools_echo]
    return [tool for tool in narrowed if tool is not None]


def _only(request: ResponseRequest, tool: JsonObject, wires: Collection[str]) -> JsonObject | None:
    match tool["type"]:
        case "namespace":
            namespace = cast("str", tool["name"])
            members = [
                one
                for one in cast("Sequence[JsonObject]", tool["tools"])
                if wire_name(cast("str", one["name"]), namespace) in wires
            ]
            return {**tool, "tools": members} if members else None
        case "mcp":
            names: list[Json] = [
                server.called(wire)["name"]
                for server in request.server_tools
                if server.echo.get("server_label") == tool["server_label"]
                for wire in server.functions
                if wire in wires
            ]
            return {**tool, "allowed_tools": names} if names else None
        case "function" | "custom" if wire_name(cast("str", tool["name"]), None) in wires:
            return tool
    return None


def _told(left: Sequence[Deferred]) -> str:
    """Return what a model is told of the search: which groups of tools there are, and which tools by
    themselves.
    """
    lines = ["Find tools that are not listed here. What is found can be called from then on. There are:"]
    size = len(lines[0])
    for line in dict.fromkeys(map(_line, left)):
        size += len(line) + 1
        if size > _MOST_TOLD:
            lines.append("- and others")
            break
        lines.append(line)
    return "\n".join(lines)


def _line(one: Deferred) -> str:
    if not one.group:
        return f"- {one.name}"
    return f"- {one.group}: {one.group_about[:_MOST_ABOUT]}".rstrip(": ")


def _words_of(about: Json, parameters: Json) -> str:
    properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
    names = " ".join(map(str, properties)) if isinstance(properties, Mapping) else ""
    return f"{about or ''} {names}"


def _words(text: str) -> list[str]:
    words = (word.lower() for run in _WORD.finditer(text) for word in _JOINT.split(run.group()))
    return list(islice(words, _MOST_WORDS))


def _sorted(text: str) -> list[str]:
    return sorted(set(_words(text)))


def _has(word: str, words: Sequence[str]) -> bool:
    """Return whether the word is among these, which are sorted: as it is, as the beginning of one, or with
    one of them as its beginning.
    """
    begins = [word[:length] for length in range(_SHORTEST, len(word))]
    return _is_in(word, words, whole=len(word) < _SHORTEST) or any(
        _is_in(begin, words, whole=True) for begin in begins
    )


def _is_in(word: str, words: Sequence[str], *, whole: bool) -> bool:
    place = bisect_left(words, word)
    return place < len(words) and (words[place] == word if whole else words[place].startswith(word))
