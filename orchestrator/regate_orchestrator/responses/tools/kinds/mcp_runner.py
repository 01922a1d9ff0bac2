"""Lists what servers of the Model Context Protocol offer, and makes the calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.errors import NotPermitted
from regate_orchestrator.ports.mcp import (
    McpListFailed,
    McpOutcome,
    McpServers,
    McpTool,
)
from regate_orchestrator.responses.tools.kinds.mcp import McpServerTool, error_text
from regate_orchestrator.responses.tools.listing import LISTING
from regate_orchestrator.responses.tools.tool import ServerTool, ToolCall, ToolResult
from regate_orchestrator.retrieval.stores import OpenStore
from regate_orchestrator.values import Json, JsonObject, StoreId, mint


@dataclass(frozen=True, slots=True)
class McpRunner:
    """Talks to servers for the loop; to none, where none is configured."""

    servers: McpServers | None

    async def listed(self, context: Context, tool: ServerTool) -> tuple[ServerTool, JsonObject]:
        """Return the server with what it offers of what the request allows, and the item that tells of it. A
        server that does not say offers nothing.
        """
        asked = cast("McpServerTool", tool)
        error = None
        try:
            listed = asked.offering(await self._known(asked).tools(context, asked.server))
        except (McpListFailed, NotPermitted) as failed:
            listed, error = asked.offering(()), failed.message
        tools: list[Json] = [_shown(one) for one in (listed.tools or {}).values()]
        item: JsonObject = {
            "id": mint("mcpl_"),
            "type": LISTING,
            "server_label": asked.server.label,
            "tools": tools,
            "error": error,
        }
        return listed, item

    async def run(self, context: Context, call: ToolCall, stores: Mapping[StoreId, OpenStore]) -> ToolResult:
        """Return what the call came to. What was not listed is not called."""
        asked = cast("McpServerTool", call.tool)
        outcome = await self._known(asked).call(
            context,
            asked.server,
            (asked.tools or {})[call.name].name,
            call.arguments or {},
            deadline_s=call.terms.deadline_s,
            max_bytes=call.terms.max_result_bytes,
        )
        return _result(outcome)

    def _known(self, asked: McpServerTool) -> McpServers:
        if self.servers is None or not self.servers.knows(asked.server):
            raise McpListFailed(f"There is no MCP server '{asked.server.label}' here.")
        return self.servers


def _result(outcome: McpOutcome) -> ToolResult:
    ran: JsonObject = {"identity": outcome.identity}
    if outcome.error is not None or outcome.is_error:
        content: list[Json] = [{"type": "text", "text": outcome.text}]
        error = outcome.error or {"type": "mcp_tool_execution_error", "content": content}
        text = error_text(error)
        shown: JsonObject = {"error": error}
        return ToolResult(
            size=len(text.encode("utf-8", "replace")), text=text, shown=shown, failed=True, call=ran
        )
    return ToolResult(
        size=outcome.size, mime=outcome.mime, text=outcome.text, shown={"output": outcome.text}, call=ran
    )


def _shown(tool: McpTool) -> JsonObject:
    return {
        "name": tool.name,
        "description": tool.description,
        "input_schema": tool.input_schema,
        "annotations": tool.claimed or None,
    }
