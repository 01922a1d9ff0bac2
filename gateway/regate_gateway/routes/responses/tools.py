"""Takes over the tools of a request, and which of them may be called. What they may hold is `tool_models.py`.
Tools that Regate cannot run are refused by name, never left out in silence.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from regate_gateway.routes.responses.client_tools import (
    CHOSEN,
    MAX_TOOLS,
    CustomTool,
    FunctionTool,
    NamedClientTool,
    NamespaceTool,
    OfferedTool,
)
from regate_gateway.routes.responses.server_tools.registry import REGISTERED
from regate_gateway.routes.responses.tool_models import (
    AllowedTools,
    NamedServerTool,
    NamedTool,
    Tool,
    ToolChoice,
)
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.responses.client_tools.described import described
from regate_orchestrator.responses.request import ClientTool
from regate_orchestrator.responses.tools.approvals import PREFIX, called_name
from regate_orchestrator.responses.tools.tool import ServerTool
from regate_orchestrator.values import Json, JsonObject

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
        elif isinstance(tool, NamespaceTool):
            echo.append(_add_namespace(client, tool, path))
        elif isinstance(tool, FunctionTool | CustomTool):
            _add_tool(client, described(tool.shown), path)
            echo.append(tool.shown)
        elif isinstance(tool, OfferedTool):
            _add_tool(client, tool.offered, path)
            echo.append(tool.model_dump(exclude_none=True))
        else:
            server.append(REGISTERED[tool.type].take_over(tool, path, server))
            echo.append(server[-1].echo)
    _require_search(client.values(), server, echo)
    found = Tools(tuple(client.values()), tuple(server), tuple(echo))
    for name in client:
        if any(tool.keeps(name) for tool in server):
            raise InvalidRequest(f"Two tools cannot have the name '{name}'.", param="tools")
    return found


def _add_tool(client: dict[str, ClientTool], added: ClientTool, path: str) -> None:
    if added.wire in client:
        param = f"{path}.name" if added.kind.is_named else f"{path}.type"
        raise InvalidRequest(f"Two tools cannot have the name '{added.name}'.", param=param)
    client[added.wire] = added


def _add_namespace(client: dict[str, ClientTool], tool: NamespaceTool, path: str) -> JsonObject:
    for index, member in enumerate(tool.tools):
        _add_tool(client, described(member.shown, tool.name), f"{path}.tools[{index}]")
    if len(client) > MAX_TOOLS:
        raise InvalidRequest(
            f"A request can have at most {MAX_TOOLS} tools.", param="tools", code="array_above_max_length"
        )
    return tool.shown


def _require_search(
    client: Collection[ClientTool], server: Sequence[ServerTool], echo: Sequence[JsonObject]
) -> None:
    """Raise `InvalidRequest` where tools are deferred that nothing can find. A search that the operator
    leaves out counts: without it they are offered at once.
    """
    defers = any(tool.is_deferred for tool in client) or any(tool.is_deferred for tool in server)
    if defers and all(tool["type"] != "tool_search" for tool in echo):
        message = "'defer_loading' goes with a tool of type 'tool_search', by which the deferred are found."
        raise InvalidRequest(message, param="tools", code="missing_required_parameter")


# ---------------------------------------------------------------- tool_choice


def choice_of(choice: ToolChoice, said: Mapping[str, Any], tools: Tools) -> Choice:
    """Return which tools may or must be called. Raises `InvalidRequest` for one that is not among
    the tools. `said` is the request as it was sent.
    """
    if isinstance(choice, str):
        return Choice(choice, None, choice)
    echo: Json = said["tool_choice"]
    if isinstance(choice, AllowedTools):
        return Choice(
            choice.mode, frozenset(name for one in choice.tools for name in _all_named(one, tools)), echo
        )
    name = _named(choice, tools)
    if name.endswith("*"):
        return Choice("required", frozenset([name]), echo)
    return Choice({"type": "function", "function": {"name": name}}, None, echo)


def _named(choice: NamedTool | NamedServerTool | NamedClientTool, tools: Tools) -> str:
    """Return the wire name of the tool that a choice names, of several the first; `label__*` is all of a
    server's.
    """
    return _all_named(choice, tools)[0]


def _all_named(choice: NamedTool | NamedServerTool | NamedClientTool, tools: Tools) -> list[str]:
    """Return the wire names of all that a choice names. Raises `InvalidRequest` for nothing."""
    if isinstance(choice, NamedTool):
        name, found = choice.name, _wires(choice, tools)
    elif isinstance(choice, NamedClientTool):
        name, kind = choice.type, CHOSEN[choice.type]
        found = [tool.wire for tool in tools.client if tool.kind.item_type == kind.item_type]
    elif choice.server_label is not None:
        name, found = choice.server_label, _of_server(choice, tools)
    else:
        name = choice.type
        running = REGISTERED[name].kind
        found = [function for tool in tools.server if tool.kind is running for function in tool.functions]
    if found:
        return found
    raise InvalidRequest(
        f"'tool_choice' names the tool '{name}', which is not among 'tools'.",
        param="tool_choice",
        code="invalid_value",
    )


def _of_server(choice: NamedServerTool, tools: Tools) -> list[str]:
    label = choice.server_label or ""
    if all(tool.echo.get("server_label") != label for tool in tools.server):
        return []
    return [f"{PREFIX}{label}__*" if choice.name is None else called_name(label, choice.name)]


def _wires(choice: NamedTool, tools: Tools) -> list[str]:
    return [
        tool.wire
        for tool in tools.client
        if tool.name == choice.name
        and tool.kind.type == choice.type
        and choice.namespace in (None, tool.namespace)
    ]
