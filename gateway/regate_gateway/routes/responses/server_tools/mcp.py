"""`mcp` at the edge: servers of tools that a request names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from regate_gateway.http.misfits import misfit
from regate_gateway.http.models import TEXT_OR_OBJECT, Id, RequestModel
from regate_gateway.routes.responses.part_models import Item, Text
from regate_gateway.routes.responses.server_tools.registration import Registration
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.ports.mcp import McpServer
from regate_orchestrator.responses.tools.kinds.mcp import MCP, Chosen, McpServerTool
from regate_orchestrator.responses.tools.kinds.mcp_runner import McpRunner
from regate_orchestrator.responses.tools.tool import ServerTool
from regate_orchestrator.values import Json, JsonObject, mint

_LABEL: Final = re.compile(r"[A-Za-z](?:[A-Za-z0-9-]|_(?=[A-Za-z0-9-])){0,39}")
_MAX_SECRET: Final = 16_384


def _require_label(label: str) -> str:
    if not _LABEL.fullmatch(label):
        raise misfit(
            "'{place}' must be 1 to 40 of A-Z a-z 0-9 _ - that begin with a letter, without two underscores "
            "in a row or one at the end."
        )
    return label


ServerLabel = Annotated[str, AfterValidator(_require_label)]
ToolNames = Annotated[list[Annotated[str, Field(min_length=1, max_length=128)]], Field(max_length=256)]


class ToolFilter(RequestModel):
    """Tools of a server."""

    tool_names: ToolNames | None = Field(None, description="By their names.")
    read_only: bool | None = Field(None, description="By whether the operator recorded that they only read.")

    @property
    def chosen(self) -> Chosen:
        """Return which tools these are."""
        return Chosen(None if self.tool_names is None else frozenset(self.tool_names), self.read_only)


class ApprovalFilter(RequestModel):
    """Which calls the client wants to approve. Those that neither names it does."""

    always: ToolFilter | None = Field(None, description="These.")
    never: ToolFilter | None = Field(None, description="Not these.")


def _list_or_object(value: object) -> str:
    return "(list)" if isinstance(value, list) else "(object)"


class McpTool(RequestModel):
    """The tools of a server that speaks the Model Context Protocol."""

    unsupported: ClassVar = ("tunnel_id", "allowed_callers")

    type: Literal["mcp"]
    server_label: ServerLabel = Field(
        description="The server: one that the operator named, or a name for yours."
    )
    server_url: Annotated[str, Field(max_length=4_096)] | None = Field(
        None, description="A server of your own, where the operator lets you name it."
    )
    connector_id: str | None = Field(None, max_length=64, description="The same as the label, if given.")
    server_description: str | None = Field(None, max_length=10_000, description="What the server is for.")
    authorization: Annotated[str, Field(max_length=_MAX_SECRET)] | None = Field(
        None, description="Your credential for the server. It is sent there only, and is not stored."
    )
    headers: dict[str, Annotated[str, Field(max_length=_MAX_SECRET)]] | None = Field(
        None, max_length=32, description="Headers for the server, as your credential."
    )
    allowed_tools: (
        Annotated[
            Annotated[ToolNames, Tag("(list)")] | Annotated[ToolFilter, Tag("(object)")],
            Discriminator(_list_or_object),
        ]
        | None
    ) = Field(None, description="The only tools that may be called; by default all.")
    require_approval: Annotated[
        Annotated[Literal["always", "never"], Tag("(text)")] | Annotated[ApprovalFilter, Tag("(object)")],
        TEXT_OR_OBJECT,
    ] = Field("always", description="Which calls you want to approve. The policy may want more.")
    defer_loading: bool = Field(False, description="Whether the tools are found by `tool_search`.")

    @model_validator(mode="after")
    def _require_one_server(self) -> Self:
        if self.connector_id is not None and self.connector_id != self.server_label:
            raise misfit(
                "'{place}' must be the same as 'server_label': servers have one name here.",
                member="connector_id",
            )
        if self.server_url is not None and self.connector_id is not None:
            raise misfit(
                "Only one of '{place}' and '{within}connector_id' can be given.", member="server_url"
            )
        return self


class McpListTools(Item):
    """What a server offered. It is listed anew."""

    type: Literal["mcp_list_tools"]
    server_label: Any = Field(None, description="Not taken over.")
    tools: Any = Field(None, description="Not taken over.")
    error: Any = Field(None, description="Not taken over.")


class McpCall(Item):
    """A call of a server's tool in an earlier turn. What it returned is the client's word."""

    type: Literal["mcp_call"]
    server_label: ServerLabel = Field(description="The server.")
    name: Id = Field(description="The tool.")
    arguments: Text = Field("{}", description="JSON.")
    output: Text | None = Field(None, description="What the tool returned.")
    error: Any = Field(None, description="What went wrong.")
    approval_request_id: Id | None = Field(None, description="The request for approval that it answers.")


class McpApprovalRequest(RequestModel):
    """A request of this gateway's to approve a call, as it was made."""

    type: Literal["mcp_approval_request"]
    id: Id = Field(description="Its id.")
    server_label: ServerLabel = Field(description="The server.")
    name: Id = Field(description="The tool.")
    arguments: Text = Field("{}", description="JSON, as it was shown.")


class McpApprovalResponse(Item):
    """The answer to a request for approval."""

    type: Literal["mcp_approval_response"]
    approval_request_id: Id = Field(description="The id of the request.")
    approve: bool = Field(description="Whether the call may be made.")
    reason: Text | None = Field(None, description="Why. The model is told why not.")


_CLIENT_ERROR: Final[JsonObject] = {"type": "mcp_tool_execution_error", "content": []}
"""What stands for an error in a client's words."""


def _item(call: McpCall) -> JsonObject:
    return {
        "id": mint(MCP.id_prefix),
        "type": call.type,
        "status": "completed",
        "server_label": call.server_label,
        "name": call.name,
        "arguments": call.arguments,
        "output": call.output,
        "error": None if call.error is None else _CLIENT_ERROR,
        "approval_request_id": call.approval_request_id,
    }


def _take_over(tool: McpTool, path: str, others: Sequence[ServerTool]) -> McpServerTool:
    if any(isinstance(one, McpServerTool) and one.server.label == tool.server_label for one in others):
        message = f"Two servers cannot have the label '{tool.server_label}'."
        raise InvalidRequest(message, param=f"{path}.server_label")
    server = McpServer(
        label=tool.server_label,
        url=tool.server_url or "",
        authorization=tool.authorization or "",
        headers=tool.headers or {},
    )
    always, never = _wanted(tool)
    return McpServerTool(server, _echo(tool), _allowed(tool), always, never)


def _allowed(tool: McpTool) -> Chosen:
    allowed = tool.allowed_tools
    if allowed is None:
        return Chosen()
    return allowed.chosen if isinstance(allowed, ToolFilter) else Chosen(frozenset(allowed))


def _wanted(tool: McpTool) -> tuple[Chosen | None, Chosen | None]:
    """Return which calls the client wants to approve, and which not whatever is said in the former."""
    wanted = tool.require_approval
    if isinstance(wanted, str):
        return (Chosen(), None) if wanted == "always" else (None, None)
    if wanted.never is None and wanted.always is not None:
        return wanted.always.chosen, None
    never = None if wanted.never is None else wanted.never.chosen
    return Chosen(), never


def _echo(tool: McpTool) -> dict[str, Json]:
    """Return the tool as the Response shows it: without credentials, which an address may hold as well."""
    said = tool.model_dump(exclude_none=True, exclude={"authorization", "headers", "server_url"})
    shown: dict[str, Json] = {"allowed_tools": None, "require_approval": "always", **said}
    if tool.server_url is not None:
        shown["server_url"] = urlsplit(tool.server_url)._replace(query="", fragment="").geturl()
    return shown


REGISTRATION: Final = Registration(
    kind=MCP,
    model=McpTool,
    take_over=_take_over,
    runner=lambda parts: McpRunner(parts.mcp),
    item_model=McpCall,
    item=_item,
    lister=lambda parts: McpRunner(parts.mcp),
)
