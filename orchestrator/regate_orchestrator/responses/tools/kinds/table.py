"""The kinds of tools that run here. A kind that is not in this table is unknown to prompts, histories and
streams.
"""

from __future__ import annotations

from typing import Final

from regate_orchestrator.responses.tools.kinds.file_search import FILE_SEARCH
from regate_orchestrator.responses.tools.kinds.mcp import MCP
from regate_orchestrator.responses.tools.kinds.web_search import WEB_SEARCH
from regate_orchestrator.responses.tools.tool import ToolKind

KINDS: Final[dict[str, ToolKind]] = {kind.item_type: kind for kind in (FILE_SEARCH, MCP, WEB_SEARCH)}
"""By the type of their calls' items. What is registered at the edge is added."""
