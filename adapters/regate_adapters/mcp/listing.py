"""A server's list of tools, read with bounds: pages, tools, bytes; names that could be taken for others are
left out.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import mcp_types as types
from mcp.client.session import ClientSession

from regate_adapters.mcp.cleaning import Cleaner
from regate_adapters.mcp.failures import McpFailed, protocol_error
from regate_adapters.mcp.settings import RecordedTool
from regate_orchestrator.ports import Annotations, McpTool

_log = logging.getLogger("regate.mcp")

_MAX_PAGES: Final = 32
_MAX_TOOLS: Final = 256
_MAX_SCHEMA: Final = 64 * 1024
_MAX_SCHEMAS: Final = 1024 * 1024
_MAX_DESCRIPTION: Final = 4_096
_NAME: Final = re.compile(r"[A-Za-z0-9_./-]{1,128}")


async def listed(
    session: ClientSession, recorded: Mapping[str, RecordedTool], cleaner: Cleaner
) -> tuple[McpTool, ...]:
    """Return the tools of the server. Raises `McpFailed` for a list past the bounds."""
    found = await _pages(session)
    counts = Counter(tool.name for tool in found)
    usable = [tool for tool in found if _NAME.fullmatch(tool.name) and counts[tool.name] == 1]
    if len(usable) < len(found):
        _log.warning("mcp_tools_left_out", extra={"count": len(found) - len(usable)})
    tools = [_read(tool, recorded.get(tool.name), cleaner) for tool in usable]
    sizes = [len(json.dumps(tool.input_schema)) for tool in tools]
    if max(sizes, default=0) > _MAX_SCHEMA or sum(sizes) > _MAX_SCHEMAS:
        raise McpFailed(protocol_error("The schemas of the server's tools are too large."))
    return tuple(tools)


async def _pages(session: ClientSession) -> Sequence[types.Tool]:
    found: list[types.Tool] = []
    cursor: str | None = None
    for _ in range(_MAX_PAGES):
        params = None if cursor is None else types.PaginatedRequestParams(cursor=cursor)
        page = await session.send_request(types.ListToolsRequest(params=params), types.ListToolsResult)
        found += page.tools
        if len(found) > _MAX_TOOLS:
            raise McpFailed(protocol_error(f"The server lists more than {_MAX_TOOLS} tools."))
        cursor = page.next_cursor
        if cursor is None:
            return found
    raise McpFailed(protocol_error(f"The server's list of tools has more than {_MAX_PAGES} pages."))


def _read(tool: types.Tool, recorded: RecordedTool | None, cleaner: Cleaner) -> McpTool:
    claimed: dict[str, Any] = (
        {}
        if tool.annotations is None
        else tool.annotations.model_dump(mode="json", by_alias=True, exclude_none=True)
    )
    return McpTool(
        name=tool.name,
        description=cleaner.text(tool.description or "", most=_MAX_DESCRIPTION),
        input_schema=cleaner.value(tool.input_schema),
        claimed=cleaner.value(claimed),
        recorded=Annotations() if recorded is None else recorded.annotations(),
    )
