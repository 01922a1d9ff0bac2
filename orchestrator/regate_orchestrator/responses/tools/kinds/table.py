"""The kinds of tools that run here. A kind that is not in this table is unknown to prompts, histories and
streams.
"""

from __future__ import annotations

from typing import Final

from regate_orchestrator.responses.tools.kinds.code_interpreter import CODE_INTERPRETER
from regate_orchestrator.responses.tools.kinds.file_search import FILE_SEARCH
from regate_orchestrator.responses.tools.kinds.image_generation import IMAGE_GENERATION
from regate_orchestrator.responses.tools.kinds.mcp import MCP
from regate_orchestrator.responses.tools.kinds.web_search import WEB_SEARCH
from regate_orchestrator.responses.tools.tool import ToolKind

_OURS: Final = (FILE_SEARCH, MCP, WEB_SEARCH, CODE_INTERPRETER, IMAGE_GENERATION)
KINDS: Final[dict[str, ToolKind]] = {kind.item_type: kind for kind in _OURS}
"""By the type of their calls' items. What is registered at the edge is added."""
