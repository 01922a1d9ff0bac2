"""What a client asked for with `POST /v1/responses`, checked and typed. The edge reads it; nothing here parses JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from regate_orchestrator.filters import Expression
from regate_orchestrator.values import Json, JsonObject, ResponseId, StoreId


@dataclass(frozen=True, slots=True)
class FunctionTool:
    """A function that the client runs itself."""

    name: str
    description: str | None
    parameters: JsonObject | None
    strict: bool | None


@dataclass(frozen=True, slots=True)
class FileSearchTool:
    """Retrieval run by us. `narrowing` is the client's filter; `echo` is the tool as the Response shows it."""

    store_ids: tuple[StoreId, ...]
    limit: int
    threshold: float
    narrowing: Expression
    echo: JsonObject


@dataclass(frozen=True, slots=True)
class ResponseRequest:
    """One create call. `items` are input items in the API's shape with ids minted; `sampling` goes to the upstream as it is."""

    model: str
    items: tuple[JsonObject, ...]
    instructions: str | None = None
    previous_response_id: ResponseId | None = None
    store: bool = True
    stream: bool = False
    functions: tuple[FunctionTool, ...] = ()
    file_search: FileSearchTool | None = None
    tools_echo: tuple[JsonObject, ...] = ()
    tool_choice: Json = "auto"
    parallel_tool_calls: bool = True
    max_tool_calls: int | None = None
    max_output_tokens: int | None = None
    include_results: bool = False
    sampling: Mapping[str, Json] = field(default_factory=dict)
    """Already in the upstream's spelling: temperature, top_p, response_format, reasoning_effort."""
    echo: Mapping[str, Json] = field(default_factory=dict)
    """Members of the Response that only repeat the request: temperature, top_p, text, reasoning, metadata, user, …"""

    @property
    def tool_types(self) -> tuple[str, ...]:
        """Return the types of the offered tools, for the route decision."""
        offered = ["function"] if self.functions else []
        return tuple([*offered, "file_search"] if self.file_search else offered)
