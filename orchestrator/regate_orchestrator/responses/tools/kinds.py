"""The kinds of tools that run here. A kind that is not in this table is unknown to prompts, histories and
streams.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from regate_orchestrator.responses.tools.file_search import FILE_SEARCH
from regate_orchestrator.responses.tools.tool import ToolKind

KINDS: Final[Mapping[str, ToolKind]] = {kind.item_type: kind for kind in (FILE_SEARCH,)}
"""By the type of their calls' items."""
