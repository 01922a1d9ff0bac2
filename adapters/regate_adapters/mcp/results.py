"""The results of tools, as the port tells them: text, and what is structured. What is neither text becomes a
note; nothing that a result names is fetched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import mcp_types as types
from mcp.client.session import ClientSession

from regate_adapters.mcp.cleaning import Cleaner
from regate_adapters.mcp.failures import McpFailed, protocol_error
from regate_orchestrator.ports import Identity, McpOutcome
from regate_orchestrator.values import JsonObject

_MAX_NOTE: Final = 200


def outcome_of(
    result: types.CallToolResult, identity: Identity, cleaner: Cleaner, *, max_bytes: int
) -> McpOutcome:
    """Return what the result says. Raises `McpFailed` past the limit."""
    text = "\n".join(cleaner.text(_shown(block)) for block in result.content)
    structured: JsonObject | None = None
    if isinstance(result.structured_content, Mapping):
        structured = cleaner.value(result.structured_content)
    mime = "text/plain"
    if not text and structured is not None:
        text, mime = json.dumps(structured, ensure_ascii=False), "application/json"
    size = len(text.encode("utf-8", "replace"))
    if size > max_bytes:
        raise McpFailed(too_large(max_bytes))
    error: JsonObject | None = None
    if result.is_error:
        error = {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": text}]}
    return McpOutcome(text, structured, bool(result.is_error), error, identity, mime, size)


def failed_call(error: JsonObject, identity: Identity) -> McpOutcome:
    """Return the outcome of a call that came to no result."""
    return McpOutcome("", None, True, error, identity)


def too_large(max_bytes: int) -> JsonObject:
    """Return the error of a result that is longer than what is accepted."""
    return protocol_error(f"The result is longer than the {max_bytes} bytes that are accepted.")


def _shown(block: Any) -> str:
    match block:
        case types.TextContent():
            return block.text
        case types.ImageContent() | types.AudioContent():
            return _note(block.type, block.mime_type, len(block.data.rstrip("=")) * 3 // 4)
        case types.ResourceLink():
            return _note("resource link", block.mime_type or "", block.size)
        case types.EmbeddedResource():
            return _note("resource", block.resource.mime_type or "", None)
        case _:
            return _note("content", "", None)


def _note(kind: str, mime: str, size: int | None) -> str:
    about = ", ".join(word for word in (mime[:_MAX_NOTE], "" if size is None else f"{size} bytes") if word)
    return f"[{kind}{f': {about}' if about else ''}; not shown here]"


async def called(
    session: ClientSession,
    name: str,
    arguments: JsonObject,
    identity: Identity,
    cleaner: Cleaner,
    *,
    max_bytes: int,
) -> McpOutcome:
    """Return what the tool of this name answers. Raises `McpFailed`, and what the SDK raises.

    Asked below the SDK's own `call_tool`, which would list the tools first to check the result by the schema
    that the server claims.
    """
    params = types.CallToolRequestParams(name=name, arguments=dict(arguments))
    result = await session.send_request(types.CallToolRequest(params=params), types.CallToolResult)
    return outcome_of(result, identity, cleaner, max_bytes=max_bytes)
