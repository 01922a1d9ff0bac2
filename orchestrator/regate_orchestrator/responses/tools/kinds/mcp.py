"""`mcp`: the tools of a server that speaks the Model Context Protocol, called with the caller's authority.

A model calls them by a name that holds the server's label, so that no server can take over another's tool, or
a client's. What a server offers is listed once for a response; a call of what was not listed cannot be made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import ClassVar, Final, cast
from urllib.parse import urlsplit

from regate_orchestrator.ports.mcp import McpServer, McpTool
from regate_orchestrator.responses.arguments import exact_object_in, object_in
from regate_orchestrator.responses.tools.approvals import called_name
from regate_orchestrator.responses.tools.tool import (
    MAX_NUMBERS,
    Notes,
    ServerTool,
    Told,
    ToolCall,
    ToolKind,
    ToolResult,
    numbers_in,
)
from regate_orchestrator.responses.tools.view import UNKNOWN, tool_view
from regate_orchestrator.values import Json, JsonObject


class _Mcp(ToolKind):
    type = "mcp"
    item_type = "mcp_call"
    id_prefix = "mcp_"
    tells_failure = True
    can_be_approved = True
    is_counted = True
    is_announced_early = False
    notes = Notes(
        bad_arguments="The tool did not run: its arguments must be a JSON object that has each name once, "
        f"and at most {MAX_NUMBERS} numbers.",
        denied="The tool did not run: it is not permitted.",
        result_denied="The tool ran, but its result may not be used.",
        no_more="No further call is possible. Answer with what was found.",
    )

    def read(self, arguments: str) -> JsonObject | None:
        read = exact_object_in(arguments or "{}")
        return None if read is None or len(numbers_in(read)) > MAX_NUMBERS else read

    def item(self, call: ToolCall, status: str, result: ToolResult | None = None) -> JsonObject:
        tool = cast("McpServerTool", call.tool)
        item: dict[str, Json] = {
            "id": call.item_id,
            "type": self.item_type,
            "status": status,
            "server_label": tool.server.label,
            "name": tool.called(call.name)["name"],
            "arguments": call.written or "{}",
            "output": None,
            "error": None,
            "approval_request_id": call.approval or None,
        }
        if call.refusal:
            item |= self.failed(call.refusal)
        return item if result is None else {**item, **result.shown}

    def called(self, item: JsonObject) -> tuple[str, Mapping[str, Json]]:
        name = called_name(cast("str", item["server_label"]), cast("str", item["name"]))
        return name, object_in(cast("str", item["arguments"])) or {}

    def view(self, item: JsonObject) -> JsonObject:
        label, name = cast("str", item["server_label"]), cast("str", item["name"])
        return tool_view(self.type, name, server_label=label, annotations=UNKNOWN)

    def told(self, item: JsonObject) -> Told:
        written = item["arguments"]
        return (
            ("mcp_call_arguments.delta", {"delta": written}),
            ("mcp_call_arguments.done", {"arguments": written}),
        )

    def failed(self, text: str) -> JsonObject:
        return {"error": {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": text}]}}

    def answer(self, item: JsonObject) -> str:
        if item.get("error") is not None:
            return error_text(item["error"])
        return cast("str", item.get("output") or "")

    def empty(self, item: JsonObject) -> JsonObject:
        return {**item, "arguments": "", "output": None, "error": None}

    def withheld(self, item: JsonObject) -> JsonObject:
        return {**item, "arguments": "{}", "output": None, "error": None}


MCP: Final[ToolKind] = _Mcp()


def error_text(error: Json) -> str:
    """Return what a model reads of a call's error."""
    if not isinstance(error, Mapping):
        return f"The tool failed: {error}"
    if "message" in error:
        return f"The tool failed: {error['message']}"
    parts = cast("Sequence[Mapping[str, Json]]", error.get("content") or ())
    return "\n".join(str(part.get("text", "")) for part in parts) or "The tool failed."


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which tools of a server something holds for: these names, or the read-only ones, or both; all where
    neither is said.
    """

    names: frozenset[str] | None = None
    read_only: bool | None = None

    def has(self, tool: McpTool) -> bool:
        """Return whether the tool is among them. What only reads is what the operator recorded as such."""
        if self.names is not None and tool.name not in self.names:
            return False
        return self.read_only is None or tool.recorded.read_only is self.read_only


@dataclass(frozen=True, slots=True)
class McpServerTool(ServerTool):
    """A server as a request offers it. `tools` are what it offers, by the names that a model calls them by,
    None until that is listed.
    """

    server: McpServer
    echo: JsonObject
    allowed: Chosen = field(default_factory=Chosen)
    always: Chosen | None = field(default_factory=Chosen)
    """Which calls the client wants to approve; None for none."""
    never: Chosen | None = None
    """Which calls it does not want to approve, whatever is said in `always`."""
    tools: Mapping[str, McpTool] | None = None
    kind: ClassVar[ToolKind] = MCP

    def keeps(self, name: str) -> bool:
        """Return whether calls by this name are the server's, whatever it is found to offer."""
        return name.startswith(called_name(self.server.label, ""))

    @property
    def is_listed(self) -> bool:
        """Whether it is known what the server offers."""
        return self.tools is not None

    @property
    def is_deferred(self) -> bool:
        """Whether the tools are offered once a search found them."""
        return self.echo.get("defer_loading") is True

    @property
    def functions(self) -> Mapping[str, JsonObject]:
        """What a model is offered."""
        return {name: _function(name, tool) for name, tool in (self.tools or {}).items()}

    def offering(self, tools: Sequence[McpTool]) -> McpServerTool:
        """Return the server with those of the tools that the request allows."""
        allowed = [tool for tool in tools if self.allowed.has(tool)]
        return replace(self, tools={called_name(self.server.label, tool.name): tool for tool in allowed})

    @property
    def policy_label(self) -> str:
        """Return the server's label before policies. One that a client names by its address is known by its
        host, whatever the client calls it, so that it cannot be taken for one of the operator's.
        """
        return f"url:{urlsplit(self.server.url).hostname}" if self.server.url else self.server.label

    def called(self, name: str) -> JsonObject:
        """Return a tool of the server as policies see it, with the annotations that the operator recorded."""
        tool = (self.tools or {}).get(name)
        annotations = UNKNOWN if tool is None else cast("JsonObject", asdict(tool.recorded))
        return tool_view(
            self.kind.type,
            "" if tool is None else tool.name,
            server_label=self.policy_label,
            annotations=annotations,
        )

    def asks_first(self, name: str) -> bool:
        """Return whether the client wants to approve calls of this tool."""
        tool = (self.tools or {}).get(name)
        if tool is None or (self.never is not None and self.never.has(tool)):
            return tool is None
        return self.always is not None and self.always.has(tool)


def _function(name: str, tool: McpTool) -> JsonObject:
    function: dict[str, Json] = {"name": name, "parameters": tool.input_schema}
    return {
        "type": "function",
        "function": function | ({"description": tool.description} if tool.description else {}),
    }
