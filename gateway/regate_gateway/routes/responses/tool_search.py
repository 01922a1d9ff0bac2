"""`tool_search`: what a request may hold of it, and its items. The search itself is in the core."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import ConfigDict, Field, Tag

from regate_gateway.http.models import ByType, Id, RequestModel
from regate_gateway.routes.json_schemas import ContainedSchema
from regate_gateway.routes.responses.client_tools import (
    MAX_TOOLS,
    CustomTool,
    FunctionTool,
    NamespaceTool,
    OfferedTool,
)
from regate_gateway.routes.responses.part_models import Item
from regate_orchestrator.responses.client_tools.tool_search import HOSTED_SEARCH, QUERY, TOOL_SEARCH
from regate_orchestrator.responses.request import ClientTool
from regate_orchestrator.values import JsonObject, mint

_MAX_TEXT: Final = 100_000
_FIND: Final = "Find tools that are not listed here. What is found can be called from then on."
_NO_ID: Final = "tool_search"
"""Names a search of this gateway's, or of others like it, that came without an id."""

Execution: TypeAlias = Literal["server", "client"]


class ToolSearchTool(OfferedTool):
    """A search for the tools whose loading is deferred."""

    type: Literal["tool_search"]
    execution: Execution = Field("server", description="Who searches: this gateway, or you.")
    description: str | None = Field(
        None, max_length=_MAX_TEXT, description="What the model is told of a search of yours."
    )
    parameters: ContainedSchema | None = None

    @property
    def offered(self) -> ClientTool:
        """Return what a model is offered."""
        if self.execution == "server":
            return ClientTool(HOSTED_SEARCH.type, None, QUERY, None, HOSTED_SEARCH)
        about, parameters = self.description or _FIND, self.parameters or QUERY
        return ClientTool(TOOL_SEARCH.type, about, parameters, None, TOOL_SEARCH)


class ToolSearchCall(Item):
    """A search for tools."""

    type: Literal["tool_search_call"]
    call_id: Id | None = Field(None, description="What the output of the call names.")
    execution: Execution = Field("server", description="Who searched.")
    arguments: dict[str, Any] = Field(description="What was looked for.")
    created_by: Any = Field(None, description="Not taken over.")

    def taken_over(self) -> JsonObject:
        """Return the item in the API's shape."""
        head = {"id": mint(TOOL_SEARCH.id_prefix), "type": self.type, "status": "completed"}
        said: JsonObject = {"execution": self.execution, "arguments": self.arguments}
        return {**head, "call_id": self.call_id or _NO_ID, **said}


class FoundServer(RequestModel):
    """Tools of a server, as this gateway found them."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["mcp"]
    server_label: Id = Field(description="The server.")
    allowed_tools: list[Id] = Field(default_factory=list, max_length=MAX_TOOLS, description="Its tools.")


FoundTool = Annotated[
    Annotated[FunctionTool, Tag("(function)")]
    | Annotated[CustomTool, Tag("(custom)")]
    | Annotated[NamespaceTool, Tag("(namespace)")]
    | Annotated[FoundServer, Tag("(server)")],
    ByType(
        {"function": "(function)", "custom": "(custom)", "namespace": "(namespace)", "mcp": "(server)"},
        "A search can find tools of type 'function', 'custom' and 'namespace' only.",
    ),
]


class ToolSearchOutput(Item):
    """The tools that a search found."""

    type: Literal["tool_search_output"]
    call_id: Id | None = Field(None, description="The call that it is the output of.")
    execution: Execution = Field("server", description="Who searched.")
    tools: list[FoundTool] = Field(max_length=MAX_TOOLS, description="What was found.")
    created_by: Any = Field(None, description="Not taken over.")

    def taken_over(self) -> JsonObject:
        """Return the item in the API's shape."""
        head = {"id": mint(TOOL_SEARCH.output_prefix), "type": self.type, "status": "completed"}
        found: JsonObject = {"execution": self.execution, "tools": [_shown(tool) for tool in self.tools]}
        return {**head, "call_id": self.call_id or _NO_ID, **found}


SHAPES: Final[dict[str, str]] = {
    "tool_search_call": "(search call)",
    "tool_search_output": "(search output)",
}
"""The shapes of its items by their types."""
SearchItem: TypeAlias = (
    Annotated[ToolSearchCall, Tag("(search call)")] | Annotated[ToolSearchOutput, Tag("(search output)")]
)


def _shown(tool: FunctionTool | CustomTool | NamespaceTool | FoundServer) -> JsonObject:
    return tool.model_dump() if tool.type == "mcp" else tool.shown
