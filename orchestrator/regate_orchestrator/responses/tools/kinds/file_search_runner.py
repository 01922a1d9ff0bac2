"""Runs `file_search`: the gated retrieval, over the stores that the turn opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.responses.tools.kinds.file_search import FileSearchTool
from regate_orchestrator.responses.tools.passage import Passage
from regate_orchestrator.responses.tools.tool import ToolCall, ToolResult
from regate_orchestrator.retrieval.admission import Hit, hit_attributes
from regate_orchestrator.retrieval.search import Retrieval, Search
from regate_orchestrator.retrieval.stores import OpenStore
from regate_orchestrator.values import StoreId


@dataclass(frozen=True, slots=True)
class FileSearchRunner:
    """Searches the stores of the turn."""

    retrieval: Retrieval

    async def run(self, context: Context, call: ToolCall, stores: Mapping[StoreId, OpenStore]) -> ToolResult:
        """Return the passages that were found, each of them admitted."""
        tool, arguments = cast("FileSearchTool", call.tool), call.arguments or {}
        search = Search((cast("str", arguments["query"]),), tool.narrowing, tool.limit, tool.ranking)
        searched = [stores[store] for store in dict.fromkeys(tool.store_ids)]
        hits = await self.retrieval.search(context, searched, search)
        return ToolResult(tuple(map(_passage, hits)), sum(len(hit.candidate.text.encode()) for hit in hits))


def _passage(hit: Hit) -> Passage:
    return Passage(hit.source, hit.filename, hit.candidate.text, hit.candidate.score, hit_attributes(hit))
