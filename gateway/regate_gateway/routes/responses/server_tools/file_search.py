"""`file_search` at the edge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field

from regate_gateway.http.misfits import misfit
from regate_gateway.http.models import Id
from regate_gateway.routes.responses.part_models import Item, Text
from regate_gateway.routes.responses.server_tools.registration import Registration
from regate_gateway.routes.vector_stores.models import Filter, Ranks
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.filters.client import read_client_filter
from regate_orchestrator.responses.tools.kinds.file_search import FILE_SEARCH, RESULTS, FileSearchTool
from regate_orchestrator.responses.tools.kinds.file_search_runner import FileSearchRunner
from regate_orchestrator.responses.tools.tool import ServerTool
from regate_orchestrator.values import Json, JsonObject, StoreId, mint


def _require_stores(stores: list[str]) -> list[str]:
    if not stores:
        text = "'{place}' must list at least one vector store."
        raise misfit(text, code="missing_required_parameter")
    return stores


class SearchTool(Ranks):
    """A search in vector stores, which runs here."""

    type: Literal["file_search"]
    vector_store_ids: Annotated[list[Id], AfterValidator(_require_stores)] = Field(
        max_length=32, description="Where it searches.", json_schema_extra={"minItems": 1}
    )
    max_num_results: int = Field(20, ge=1, le=50, description="How many passages a search finds.")
    filters: Filter = None


class FileSearchCall(Item):
    """A search of an earlier turn. What a client says was found is no evidence, and is not taken over."""

    type: Literal["file_search_call"]
    queries: list[Text] = Field(default_factory=list, max_length=50, description="What was sought.")
    results: Any = Field(None, description="Not taken over.")


def _item(call: FileSearchCall) -> JsonObject:
    # A search of ours finds again
    sought: JsonObject = {"status": "completed", "queries": call.queries, "results": None}
    return {"id": mint(FILE_SEARCH.id_prefix), "type": call.type, **sought}


def _take_over(tool: SearchTool, path: str, others: Sequence[ServerTool]) -> FileSearchTool:
    if any(other.kind is FILE_SEARCH for other in others):
        message = "Only one 'file_search' tool is allowed; list all stores in it."
        raise InvalidRequest(message, param=f"{path}.type")
    options = tool.options
    ranking: dict[str, Json] = {"ranker": options.ranker, "score_threshold": options.score_threshold}
    if options.hybrid_search is not None:
        ranking["hybrid_search"] = options.hybrid_search.model_dump(exclude_unset=True)
    echo: dict[str, Json] = {
        "type": tool.type,
        "vector_store_ids": list(tool.vector_store_ids),
        "max_num_results": tool.max_num_results,
        "ranking_options": ranking,
        "filters": tool.filters,
    }
    if tool.search_mode is not None:
        echo["search_mode"] = tool.search_mode
    return FileSearchTool(
        store_ids=tuple(StoreId(store) for store in tool.vector_store_ids),
        limit=tool.max_num_results,
        ranking=tool.ranking,
        narrowing=read_client_filter(tool.filters, param=f"{path}.filters"),
        echo=echo,
    )


REGISTRATION: Final = Registration(
    kind=FILE_SEARCH,
    model=SearchTool,
    take_over=_take_over,
    runner=lambda parts: FileSearchRunner(parts.retrieval),
    item_model=FileSearchCall,
    item=_item,
    includes=(RESULTS,),
)
