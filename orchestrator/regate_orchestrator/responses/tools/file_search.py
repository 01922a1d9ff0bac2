"""`file_search`: retrieval run here. The model's part of a call is its query; stores, filters and limits come
from the request alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from regate_orchestrator.filters.expression import Expression
from regate_orchestrator.responses.arguments import text_among
from regate_orchestrator.responses.tools.tool import Notes, ToolKind
from regate_orchestrator.values import Json, JsonObject, StoreId

_NAME: Final = "file_search"
_FUNCTION: Final[JsonObject] = {
    "type": "function",
    "function": {
        "name": _NAME,
        "description": "Search the attached documents. Returns passages, each under a marker such as 【1】.",
        "parameters": {
            "type": "object",
            "properties": {
                "query": {
                    "type": "string",
                    "description": "What to look for, as a full question or a few key words.",
                }
            },
            "required": ["query"],
            "additionalProperties": False,
        },
    },
}


class _FileSearch:
    type: Final = _NAME
    item_type: Final = "file_search_call"
    id_prefix: Final = "fs_"
    progress: Final = "searching"
    notes: Final = Notes(
        bad_arguments='The search did not run: its arguments must be a JSON object with a string "query".',
        denied="The search did not run: it is not permitted.",
        result_denied="The search ran, but its result may not be used.",
        no_more="No further search is possible. Answer with what was found.",
    )

    def read(self, arguments: str) -> JsonObject | None:
        query = text_among(arguments, "query")
        return None if query is None or not query.strip() else {"query": query}

    def item(
        self, item_id: str, status: str, arguments: JsonObject | None, results: list[JsonObject] | None
    ) -> JsonObject:
        queries = [] if arguments is None else [arguments["query"]]
        return {
            "id": item_id,
            "type": self.item_type,
            "status": status,
            "queries": queries,
            "results": cast("Json", results),
        }

    def called(self, item: JsonObject) -> tuple[str, Mapping[str, Json]]:
        return _NAME, {"query": " ".join(cast("Sequence[str]", item["queries"]))}

    def empty(self, item: JsonObject) -> JsonObject:
        return {**item, "queries": [], "results": None}

    def withheld(self, item: JsonObject) -> JsonObject:
        return {**item, "queries": []}


FILE_SEARCH: Final[ToolKind] = _FileSearch()


@dataclass(frozen=True, slots=True)
class FileSearchTool:
    """The tool as a request offers it. `narrowing` is the client's filter."""

    store_ids: tuple[StoreId, ...]
    limit: int
    threshold: float
    narrowing: Expression
    echo: JsonObject

    @property
    def kind(self) -> ToolKind:
        """Its kind."""
        return FILE_SEARCH

    @property
    def functions(self) -> Mapping[str, JsonObject]:
        """The one function that a model is offered."""
        return {_NAME: _FUNCTION}

    def view(self, arguments: JsonObject) -> JsonObject:
        """Return the arguments as policies see them: the query by its length, never its text."""
        query = cast("str", arguments["query"])
        return {"query_length": len(query), "vector_store_ids": list(self.store_ids)}
