"""`file_search`: retrieval run here. The model's part of a call is its query; stores, filters and limits come
from the request alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final, cast

from regate_orchestrator.filters.expression import Expression
from regate_orchestrator.responses.arguments import text_among
from regate_orchestrator.responses.tools.passage import Passage
from regate_orchestrator.responses.tools.tool import Notes, ServerTool, ToolCall, ToolKind, ToolResult
from regate_orchestrator.responses.tools.wire import wire_function
from regate_orchestrator.retrieval.ranking import Ranking
from regate_orchestrator.retrieval.search import LONGEST_QUERY
from regate_orchestrator.values import Json, JsonObject, StoreId

RESULTS: Final = "file_search_call.results"
"""What of `include` asks for the passages that were found."""

_NAME: Final = "file_search"
_FUNCTION: Final = wire_function(
    _NAME,
    "Search the attached documents. Returns passages, each under a marker such as 【1】.",
    query={
        "type": "string",
        "description": "What to look for, as a full question or a few key words.",
    },
)


class _FileSearch(ToolKind):
    type = _NAME
    item_type = "file_search_call"
    id_prefix = "fs_"
    progress = "searching"
    notes = Notes(
        bad_arguments='The search did not run: its arguments must be a JSON object with a string "query", of '
        f"{LONGEST_QUERY:,} characters at most.",
        denied="The search did not run: it is not permitted.",
        result_denied="The search ran, but its result may not be used.",
        no_more="No further search is possible. Answer with what was found.",
    )

    def read(self, arguments: str) -> JsonObject | None:
        query = text_among(arguments, "query")
        if query is None or not query.strip() or len(query) > LONGEST_QUERY:
            return None
        return {"query": query}

    def item(self, call: ToolCall, status: str, result: ToolResult | None = None) -> JsonObject:
        queries = [] if call.arguments is None else [call.arguments["query"]]
        return {
            "id": call.item_id,
            "type": self.item_type,
            "status": status,
            "queries": queries,
            "results": None,
        }

    def shown(self, item: JsonObject, passages: Sequence[Passage], include: Collection[str]) -> JsonObject:
        if RESULTS not in include:
            return item
        return {**item, "results": [passage.as_result() for passage in passages]}

    def called(self, item: JsonObject) -> tuple[str, Mapping[str, Json]]:
        return _NAME, {"query": " ".join(cast("Sequence[str]", item["queries"]))}

    def empty(self, item: JsonObject) -> JsonObject:
        return {**item, "queries": [], "results": None}

    def withheld(self, item: JsonObject) -> JsonObject:
        return {**item, "queries": []}


FILE_SEARCH: Final[ToolKind] = _FileSearch()


@dataclass(frozen=True, slots=True)
class FileSearchTool(ServerTool):
    """The tool as a request offers it. `narrowing` is the client's filter."""

    store_ids: tuple[StoreId, ...] = field()
    limit: int
    ranking: Ranking
    narrowing: Expression
    echo: JsonObject
    kind: ClassVar[ToolKind] = FILE_SEARCH

    @property
    def functions(self) -> Mapping[str, JsonObject]:
        """The one function that a model is offered."""
        return {_NAME: _FUNCTION}

    def view(self, arguments: JsonObject) -> JsonObject:
        """Return the arguments as policies see them: the query by its length, never its text."""
        query = cast("str", arguments["query"])
        return {"query_length": len(query), "vector_store_ids": list(self.store_ids)}
