"""Takes over the tools of a request, and which of them may be called. What they may hold is `tool_models.py`.
Tools that Regate cannot run are refused by name, never left out in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from regate_gateway.routes.responses.tool_models import (
    MAX_TOOLS,
    CustomTool,
    FunctionTool,
    NamedSearch,
    NamedTool,
    NamespaceTool,
    SearchTool,
    Tool,
    ToolChoice,
)
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.filters.client import read_client_filter
from regate_orchestrator.responses.request import ClientTool
from regate_orchestrator.responses.tools.file_search import FILE_SEARCH, FileSearchTool
from regate_orchestrator.responses.tools.tool import ServerTool
from regate_orchestrator.values import Json, JsonObject, StoreId

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


def tools_of(tools: Sequence[Tool]) -> Tools:
    """Return the tools. Raises `InvalidRequest` for two that cannot be told apart."""
    client: dict[str, ClientTool] = {}
    server: list[ServerTool] = []
    echo: list[JsonObject] = []
    for index, tool in enumerate(tools):
        path = f"tools[{index}]"
        if isinstance(tool, dict):  # one that is left out
            echo.append({name: value for name, value in tool.items() if name not in _SECRETS})
        elif tool.type == "namespace":
            echo.append(_add_namespace(client, tool, path))
        elif tool.type == "function" or tool.type == "custom":
            echo.append(_add(client, tool, None, path))
        else:
            server.append(_SERVER_TOOLS[tool.type](tool, path, server))
            echo.append(server[-1].echo)
    return Tools(tuple(client.values()), tuple(server), tuple(echo))


def _add(
    client: dict[str, ClientTool], tool: FunctionTool | CustomTool, namespace: str | None, path: str
) -> JsonObject:
    """Add the tool under its wire name, and return how it is shown."""
    added = _client_tool(tool, namespace)
    if added.wire in _SERVER_TOOLS or added.wire in client:
        raise InvalidRequest(f"Two tools cannot have the name '{tool.name}'.", param=f"{path}.name")
    client[added.wire] = added
    shown: JsonObject = {"type": tool.type, "name": tool.name, "description": added.description}
    if tool.type == "custom":
        wanted = {"type": "text"} if tool.format is None else tool.format.model_dump(exclude_none=True)
        return {**shown, "format": wanted}
    return {**shown, "parameters": tool.parameters, "strict": tool.strict}


def _client_tool(tool: FunctionTool | CustomTool, namespace: str | None) -> ClientTool:
    if tool.type == "function":
        return ClientTool(tool.name, tool.description, tool.parameters, tool.strict, namespace=namespace)
    return ClientTool(tool.name, _described(tool), _FREE_TEXT, None, custom=True, namespace=namespace)


_FREE_TEXT: Final[JsonObject] = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "The tool's whole input, as it is."}},
    "required": ["input"],
    "additionalProperties": False,
}
"""A backend knows functions only: the free text of a custom tool is the one argument of a function."""


def _described(tool: CustomTool) -> str | None:
    """Return a custom tool's description with its grammar in words, since a backend that takes
    functions only cannot enforce one.
    """
    wanted = tool.format
    if wanted is None or wanted.type == "text":
        return tool.description
    grammar = f"The input must match this {wanted.syntax} grammar:\n{wanted.definition}"
    return f"{tool.description or ''}\n\n{grammar}".strip()


def _add_namespace(client: dict[str, ClientTool], tool: NamespaceTool, path: str) -> JsonObject:
    members = [
        _add(client, member, tool.name, f"{path}.tools[{index}]") for index, member in enumerate(tool.tools)
    ]
    if len(client) > MAX_TOOLS:
        raise InvalidRequest(
            f"A request can have at most {MAX_TOOLS} tools.", param="tools", code="array_above_max_length"
        )
    return {"type": tool.type, "name": tool.name, "description": tool.description, "tools": members}


def _file_search(tool: SearchTool, path: str, others: Sequence[ServerTool]) -> FileSearchTool:
    if any(other.kind is FILE_SEARCH for other in others):
        message = "Only one 'file_search' tool is allowed; list all stores in it."
        raise InvalidRequest(message, param=f"{path}.type")
    ranking = tool.ranking_options
    threshold = 0.0 if ranking is None else ranking.score_threshold
    echo: dict[str, Json] = {
        "type": tool.type,
        "vector_store_ids": list(tool.vector_store_ids),
        "max_num_results": tool.max_num_results,
        "ranking_options": {
            "ranker": "auto" if ranking is None else ranking.ranker,
            "score_threshold": threshold,
        },
        "filters": tool.filters,
    }
    return FileSearchTool(
        store_ids=tuple(StoreId(store) for store in tool.vector_store_ids),
        limit=tool.max_num_results,
        threshold=threshold,
        narrowing=read_client_filter(tool.filters, param=f"{path}.filters"),
        echo=echo,
    )


_SERVER_TOOLS: Final[Mapping[str, Callable[[Any, str, Sequence[ServerTool]], ServerTool]]] = {
    FILE_SEARCH.type: _file_search
}
"""What takes over the tools that run here, by their types: told the tool, its place, and those before it."""


# ---------------------------------------------------------------- tool_choice


def choice_of(choice: ToolChoice, said: Mapping[str, Any], tools: Tools) -> Choice:
    """Return which tools may or must be called. Raises `InvalidRequest` for one that is not among
    the tools. `said` is the request as it was sent.
    """
    if isinstance(choice, str):
        return Choice(choice, None, choice)
    echo: Json = said["tool_choice"]
    if choice.type == "allowed_tools":
        return Choice(choice.mode, frozenset(_named(one, tools) for one in choice.tools), echo)
    return Choice({"type": "function", "function": {"name": _named(choice, tools)}}, None, echo)


def _named(choice: NamedTool | NamedSearch, tools: Tools) -> str:
    """Return the wire name of the tool that a choice names."""
    if isinstance(choice, NamedTool):
        name, found = choice.name, _wires(choice, tools)
    else:
        name = choice.type
        found = [function for tool in tools.server if tool.kind.type == name for function in tool.functions]
    for wire in found:
        return wire
    raise InvalidRequest(
        f"'tool_choice' names the tool '{name}', which is not among 'tools'.",
        param="tool_choice",
        code="invalid_value",
    )


def _wires(choice: NamedTool, tools: Tools) -> list[str]:
    return [
        tool.wire
        for tool in tools.client
        if tool.name == choice.name
        and tool.custom == (choice.type == "custom")
        and choice.namespace in (None, tool.namespace)
    ]
