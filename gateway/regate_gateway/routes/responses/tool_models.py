"""What the tools of a request may hold, and the choice among them. How they are taken over is `tools.py`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, PlainValidator, Tag, model_validator
from pydantic.json_schema import SkipJsonSchema

from regate_gateway.http.misfits import misfit
from regate_gateway.http.models import TEXT_OR_OBJECT, ByType, Id, RequestModel
from regate_gateway.routes.responses.client_tools import (
    CHOSEN,
    MAX_TOOLS,
    ClientRunTool,
    CustomTool,
    FunctionTool,
    NamedClientTool,
    NamespaceTool,
)
from regate_gateway.routes.responses.client_tools import SHAPES as CLIENT_SHAPES
from regate_gateway.routes.responses.server_tools.code_interpreter import CodeTool
from regate_gateway.routes.responses.server_tools.file_search import SearchTool
from regate_gateway.routes.responses.server_tools.image_generation import ImageGenerationTool
from regate_gateway.routes.responses.server_tools.mcp import McpTool
from regate_gateway.routes.responses.server_tools.registry import REGISTERED
from regate_gateway.routes.responses.server_tools.web_search import TYPES as WEB_TYPES
from regate_gateway.routes.responses.server_tools.web_search import WebTool
from regate_gateway.routes.responses.tool_search import ToolSearchTool
from regate_orchestrator.errors import InvalidRequest


class LeftOut(dict[str, Any]):
    """A tool that is shown, and not taken over."""


def without(tools: Any, omit: Collection[str]) -> Any:
    """Return the tools of a request, those marked that are left out: because the operator lists their type,
    or because that changes nothing.
    """
    if not isinstance(tools, list):
        return tools
    defers = any(map(_defers, tools))
    return [LeftOut(tool) if _is_left_out(tool, omit, defers=defers) else tool for tool in tools]


def _is_left_out(tool: Any, omit: Collection[str], *, defers: bool) -> bool:
    kind = tool.get("type") if isinstance(tool, dict) else None
    if not isinstance(kind, str):
        return False
    finds = kind == "tool_search" and (defers or tool.get("execution") == "client")
    return kind in omit or (is_vacuous(kind, tool) and not finds)


def _defers(tool: Any) -> bool:
    """Return whether the tool, or one in it, is deferred."""
    if not isinstance(tool, dict):
        return False
    members = tool.get("tools")
    return tool.get("defer_loading") is True or any(
        map(_defers, members if isinstance(members, list) else ())
    )


def is_vacuous(kind: str, tool: Mapping[str, Any]) -> bool:
    """Return whether leaving the tool out changes nothing: a search for tools where none is deferred,
    a web search that may not reach the web.
    """
    return kind == "tool_search" or (
        kind.startswith("web_search") and tool.get("external_web_access") is False
    )


def require_set_up(tools: Any, sections: Collection[str]) -> None:
    """Raise `InvalidRequest` for a tool that runs here once the operator has set it up, where that is not so.
    `sections` are those of the settings that there are.
    """
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        kind = tool.get("type") if isinstance(tool, dict) and not isinstance(tool, LeftOut) else None
        registration = REGISTERED.get(kind) if isinstance(kind, str) else None
        if registration is not None and registration.section not in {"", *sections}:
            raise InvalidRequest(
                f"Tools of type '{kind}' are not set up at this gateway (`tools.{registration.section}`).",
                param=f"tools[{index}].type",
                code="unsupported_parameter",
            )


_SHAPES: Final = {
    "function": "(function)",
    "custom": "(custom)",
    "namespace": "(namespace)",
    "file_search": "(search)",
    "mcp": "(mcp)",
    "code_interpreter": "(code)",
    "image_generation": "(image)",
    **dict.fromkeys(WEB_TYPES, "(web)"),
    "tool_search": "(tool search)",
    **CLIENT_SHAPES,
}


def _read_registered(tool: Any) -> RequestModel:
    return REGISTERED[tool["type"]].model.model_validate(tool)


def _shape(tool: Any) -> str | None:
    if isinstance(tool, LeftOut):
        return "(left out)"
    kind = tool.get("type") if isinstance(tool, dict) else None
    if not isinstance(kind, str):
        return None
    return _SHAPES.get(kind) or ("(registered)" if kind in REGISTERED else None)


Tool = Annotated[
    Annotated[FunctionTool, Tag("(function)")]
    | Annotated[CustomTool, Tag("(custom)")]
    | Annotated[NamespaceTool, Tag("(namespace)")]
    | Annotated[SearchTool, Tag("(search)")]
    | Annotated[McpTool, Tag("(mcp)")]
    | Annotated[WebTool, Tag("(web)")]
    | ClientRunTool
    | Annotated[ToolSearchTool, Tag("(tool search)")]
    | Annotated[CodeTool, Tag("(code)")]
    | Annotated[ImageGenerationTool, Tag("(image)")]
    | Annotated[SkipJsonSchema[Any], PlainValidator(_read_registered), Tag("(registered)")]
    | Annotated[SkipJsonSchema[dict[str, Any]], Tag("(left out)")],
    ByType(
        _SHAPES,
        "Tools of type '{kind}' are not supported by this gateway; it has "
        + ", ".join(f"'{name}'" for name in {**_SHAPES, **REGISTERED})
        + ".",
        shape=_shape,
    ),
]


# ---------------------------------------------------------------- tool_choice


class NamedTool(RequestModel):
    """A tool of the client's by its name."""

    type: Literal["function", "custom"]
    name: Id = Field(description="The tool.")
    namespace: Id | None = Field(None, description="The namespace of the tool.")


class NamedServerTool(RequestModel):
    """A tool that runs here; of a server, all of its tools or the one of this name."""

    type: str = Field(max_length=64, description="Its type.")
    server_label: Id | None = Field(None, description="The server; with `mcp` alone.")
    name: Id | None = Field(None, description="The tool of the server; with `mcp` alone.")

    @model_validator(mode="after")
    def _require_server(self) -> Self:
        if self.type == "mcp" and self.server_label is None:
            text = "Missing required parameter: '{place}'."
            raise misfit(text, code="missing_required_parameter", member="server_label")
        for name in ("server_label", "name"):
            if self.type != "mcp" and getattr(self, name) is not None:
                raise misfit("'{place}' goes with 'mcp' only.", member=name)
        return self


_CHOICES: Final = (
    "'{place}' can be "
    + ", ".join(f"'{name}'" for name in ("allowed_tools", "function", "custom", *REGISTERED, *CHOSEN))
    + "."
)


def _choice(choice: Any) -> str | None:
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind in ("function", "custom"):
        return "(named)"
    if isinstance(kind, str) and kind in CHOSEN:
        return "(client)"
    return "(server)" if isinstance(kind, str) and kind in REGISTERED else None


def _any_choice(choice: Any) -> str | None:
    named = isinstance(choice, dict) and choice.get("type") == "allowed_tools"
    return "(allowed)" if named else _choice(choice)


class AllowedTools(RequestModel):
    """The only tools that may be called."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"] = Field("auto", description="Whether one of them must be called.")
    tools: list[
        Annotated[
            Annotated[NamedTool, Tag("(named)")]
            | Annotated[NamedServerTool, Tag("(server)")]
            | Annotated[NamedClientTool, Tag("(client)")],
            ByType({}, _CHOICES, code="invalid_value", shape=_choice),
        ]
    ] = Field(
        default_factory=list,
        max_length=MAX_TOOLS,
        description="The tools.",
        json_schema_extra={"minItems": 1},
    )

    @model_validator(mode="after")
    def _require_tools(self) -> Self:
        if not self.tools:
            text = "'{place}' must name at least one tool."
            raise misfit(text, code="missing_required_parameter", member="tools")
        return self


ToolChoice = Annotated[
    Annotated[Literal["auto", "none", "required"], Tag("(text)")]
    | Annotated[
        Annotated[NamedTool, Tag("(named)")]
        | Annotated[NamedServerTool, Tag("(server)")]
        | Annotated[NamedClientTool, Tag("(client)")]
        | Annotated[AllowedTools, Tag("(allowed)")],
        ByType({}, _CHOICES, code="invalid_value", shape=_any_choice),
        Tag("(object)"),
    ],
    TEXT_OR_OBJECT,
]
