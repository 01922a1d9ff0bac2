"""Reads the tools of a request, and which of them may be called. Tools that Regate cannot run are
refused by name, never left out in silence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from regate_gateway.http.fields import Fields
from regate_gateway.routes.json_schemas import read_schema
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.filters.client import read_client_filter
from regate_orchestrator.responses.request import ClientTool
from regate_orchestrator.responses.tools.file_search import FILE_SEARCH, FileSearchTool
from regate_orchestrator.responses.tools.tool import ServerTool
from regate_orchestrator.values import Json, JsonObject, StoreId

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_MAX_TOOLS: Final = 256
_LONGEST: Final = 1_000_000
_SECRETS: Final = frozenset({"authorization", "headers"})
"""Members of tools that hold the client's credentials for others: neither stored nor shown, of a tool
that is left out too.
"""


@dataclass(frozen=True, slots=True)
class Tools:
    """The tools of a request; `echo` is how the Response shows them."""

    client: tuple[ClientTool, ...] = ()
    server: tuple[ServerTool, ...] = ()
    echo: tuple[JsonObject, ...] = ()

    @property
    def wires(self) -> frozenset[str]:
        """Return the names of all tools before the backend."""
        return frozenset([*(tool.wire for tool in self.client), *self.functions])

    @property
    def functions(self) -> list[str]:
        """Return the names by which a model calls the tools that run here."""
        return [name for tool in self.server for name in tool.functions]


@dataclass(frozen=True, slots=True)
class Choice:
    """`tool_choice`: `sent` is the backend's shape of it (by wire name), `allowed` the hard limit,
    `echo` what the client said.
    """

    sent: Json = "auto"
    allowed: frozenset[str] | None = None
    echo: Json = "auto"


def read_tools(fields: Fields, *, omit: Collection[str] = ()) -> Tools:
    """Return the tools. Raises `InvalidRequest` for one that cannot be run here, unless the operator
    lists its type as one to leave out.
    """
    client: dict[str, ClientTool] = {}
    server: list[ServerTool] = []
    echo: list[JsonObject] = []
    for tool in fields.objects("tools", most=_MAX_TOOLS):
        match tool.string("type", most=64):
            case kind if kind in omit or is_vacuous(kind, tool):
                echo.append({name: value for name, value in tool.values.items() if name not in _SECRETS})
            case "function" | "custom":
                echo.append(_add(client, _client_tool(tool), tool))
            case "namespace":
                echo.append(_namespace(client, tool))
            case kind if kind in _SERVER_TOOLS:
                server.append(_SERVER_TOOLS[kind](tool, server))
                echo.append(server[-1].echo)
            case kind:
                message = (
                    f"Tools of type '{kind}' are not supported by this gateway; use 'function', 'custom', "
                    "'namespace' or 'file_search'."
                )
                raise InvalidRequest(message, param=tool.param("type"), code="unsupported_parameter")
    return Tools(tuple(client.values()), tuple(server), tuple(echo))


def is_vacuous(kind: str, tool: Fields) -> bool:
    """Return whether leaving the tool out changes nothing: a search for tools where none is deferred,
    a web search that may not reach the web.
    """
    return kind == "tool_search" or (
        kind.startswith("web_search") and tool.values.get("external_web_access") is False
    )


def _add(client: dict[str, ClientTool], tool: ClientTool, place: Fields) -> JsonObject:
    """Add the tool under its wire name, and return how it is shown."""
    if tool.wire in _SERVER_TOOLS or tool.wire in client:
        raise InvalidRequest(f"Two tools cannot have the name '{tool.name}'.", param=place.param("name"))
    client[tool.wire] = tool
    if tool.custom:
        return {
            "type": "custom",
            "name": tool.name,
            "description": tool.description,
            "format": dict(place.values).get("format") or {"type": "text"},
        }
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict,
    }


def tool_name(fields: Fields, *, most: int = 128) -> str:
    """Return the name of a tool."""
    name, place = fields.string("name", most=most), fields.param("name")
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"'{place}' must be 1 to {most} of A-Z a-z 0-9 _ -", param=place, code="invalid_value"
        )
    return name


def _client_tool(tool: Fields, namespace: str | None = None) -> ClientTool:
    unsupported = ("defer_loading", "output_schema", "allowed_callers", "async")
    tool.refuse_unsupported(*(name for name in unsupported if tool.values.get(name) is not False))
    name = tool_name(tool)
    description = tool.maybe_string("description", most=_LONGEST)
    if tool.string("type", most=64) == "custom":
        tool.refuse_unknown({"type", "name", "description", "format", *unsupported})
        return ClientTool(
            name,
            _described(description, tool.maybe_object("format")),
            _FREE_TEXT,
            None,
            custom=True,
            namespace=namespace,
        )
    tool.refuse_unknown({"type", "name", "description", "parameters", "strict", *unsupported})
    parameters = read_schema(tool, "parameters") if tool.has("parameters") else None
    strict = tool.boolean("strict", default=False) if tool.has("strict") else None
    return ClientTool(name, description, parameters, strict, namespace=namespace)


_FREE_TEXT: Final[JsonObject] = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "The tool's whole input, as it is."}},
    "required": ["input"],
    "additionalProperties": False,
}
"""A backend knows functions only: the free text of a custom tool is the one argument of a function."""


def _described(description: str | None, wanted: Fields | None) -> str | None:
    """Return a custom tool's description with its grammar in words, since a backend that takes
    functions only cannot enforce one.
    """
    if wanted is None or wanted.choice("type", ("text", "grammar"), default="text") == "text":
        return description
    wanted.refuse_unknown({"type", "syntax", "definition"})
    syntax, definition = (
        wanted.choice("syntax", ("lark", "regex"), default=None),
        wanted.string("definition", most=_LONGEST),
    )
    return f"{description or ''}\n\nThe input must match this {syntax} grammar:\n{definition}".strip()


def _namespace(client: dict[str, ClientTool], tool: Fields) -> JsonObject:
    tool.refuse_unknown({"type", "name", "description", "tools"})
    name = tool_name(tool)
    members: list[Json] = []
    for member in tool.objects("tools", most=_MAX_TOOLS):
        if member.string("type", most=64) not in ("function", "custom"):
            place = member.param("type")
            raise InvalidRequest(
                "A namespace can hold tools of type 'function' and 'custom' only.",
                param=place,
                code="unsupported_parameter",
            )
        members.append(_add(client, _client_tool(member, namespace=name), member))
    if len(client) > _MAX_TOOLS:
        raise InvalidRequest(
            f"A request can have at most {_MAX_TOOLS} tools.", param="tools", code="array_above_max_length"
        )
    return {
        "type": "namespace",
        "name": name,
        "description": tool.maybe_string("description", most=_LONGEST),
        "tools": members,
    }


def _file_search(tool: Fields, others: Sequence[ServerTool]) -> FileSearchTool:
    if any(other.kind is FILE_SEARCH for other in others):
        message = "Only one 'file_search' tool is allowed; list all stores in it."
        raise InvalidRequest(message, param=tool.param("type"))
    tool.refuse_unknown({"type", "vector_store_ids", "max_num_results", "filters", "ranking_options"})
    stores = tool.ids("vector_store_ids", most=32)
    if not stores:
        place = tool.param("vector_store_ids")
        raise InvalidRequest(
            f"'{place}' must list at least one vector store.", param=place, code="missing_required_parameter"
        )
    limit = tool.integer("max_num_results", least=1, most=50, default=20)
    threshold, ranking = read_ranking_options(tool), tool.maybe_object("ranking_options")
    filters = tool.values.get("filters")
    echo: dict[str, Json] = {
        "type": FILE_SEARCH.type,
        "vector_store_ids": list(stores),
        "max_num_results": limit,
        "ranking_options": {
            "ranker": "auto" if ranking is None else ranking.values.get("ranker") or "auto",
            "score_threshold": threshold,
        },
        "filters": filters,
    }
    return FileSearchTool(
        store_ids=tuple(StoreId(store) for store in stores),
        limit=limit,
        threshold=threshold,
        narrowing=read_client_filter(filters, param=tool.param("filters")),
        echo=echo,
    )


_SERVER_TOOLS: Final[Mapping[str, Callable[[Fields, Sequence[ServerTool]], ServerTool]]] = {
    FILE_SEARCH.type: _file_search
}
"""Readers of the tools that run here, by their types: each is told of those before it."""


def read_ranking_options(fields: Fields) -> float:
    """Return the score threshold; other rankers than the default are refused."""
    options = fields.maybe_object("ranking_options")
    if options is None:
        return 0.0
    options.refuse_unsupported("hybrid_search")
    options.refuse_unknown({"ranker", "score_threshold", "hybrid_search"})
    options.choice("ranker", ("auto", "none", "default-2024-11-15"), default="auto")
    return options.maybe_number("score_threshold", least=0.0, most=1.0) or 0.0


# ---------------------------------------------------------------- tool_choice


def read_tool_choice(fields: Fields, tools: Tools) -> Choice:
    """Return which tools may or must be called. Raises `InvalidRequest` for one that is not among
    the tools.
    """
    if isinstance(fields.values.get("tool_choice"), str) or not fields.has("tool_choice"):
        chosen = fields.choice("tool_choice", ("auto", "none", "required"), default="auto")
        return Choice(chosen, None, chosen)
    choice = fields.object("tool_choice")
    kind = choice.string("type", most=64)
    if kind == "allowed_tools":
        choice.refuse_unknown({"type", "mode", "tools"})
        mode = choice.choice("mode", ("auto", "required"), default="auto")
        named = choice.objects("tools", most=_MAX_TOOLS)
        allowed = frozenset(_named(one, one.string("type", most=64), tools) for one in named)
        if not allowed:
            place = choice.param("tools")
            raise InvalidRequest(
                f"'{place}' must name at least one tool.", param=place, code="missing_required_parameter"
            )
        return Choice(mode, allowed, choice.values)
    wire = _named(choice, kind, tools)
    return Choice({"type": "function", "function": {"name": wire}}, None, choice.values)


def _named(choice: Fields, kind: str, tools: Tools) -> str:
    """Return the wire name of the tool that a choice names."""
    if kind in _SERVER_TOOLS:
        choice.refuse_unknown({"type"})
        found: Iterable[str] = [
            name for tool in tools.server if tool.kind.type == kind for name in tool.functions
        ]
        name = kind
    elif kind in ("function", "custom"):
        choice.refuse_unknown({"type", "name", "namespace"})
        name, namespace = choice.id("name"), choice.maybe_id("namespace")
        found = [
            tool.wire
            for tool in tools.client
            if tool.name == name and tool.custom == (kind == "custom") and namespace in (None, tool.namespace)
        ]
    else:
        place = choice.param("type")
        message = f"'{place}' can be 'allowed_tools', 'function', 'custom' or 'file_search'."
        raise InvalidRequest(message, param=place, code="invalid_value")
    for wire in found:
        return wire
    raise InvalidRequest(
        f"'tool_choice' names the tool '{name}', which is not among 'tools'.",
        param="tool_choice",
        code="invalid_value",
    )
