"""What the tools of a request may hold, and the choice among them. How they are taken over is `tools.py`."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, Field, PlainValidator, Tag, model_validator
from pydantic.json_schema import SkipJsonSchema

from regate_gateway.http.misfits import misfit
from regate_gateway.http.models import TEXT_OR_OBJECT, ByType, Id, RequestModel
from regate_gateway.routes.json_schemas import ContainedSchema
from regate_gateway.routes.responses.server_tools.code_interpreter import CodeTool
from regate_gateway.routes.responses.server_tools.file_search import SearchTool
from regate_gateway.routes.responses.server_tools.image_generation import ImageGenerationTool
from regate_gateway.routes.responses.server_tools.mcp import McpTool
from regate_gateway.routes.responses.server_tools.registry import REGISTERED
from regate_gateway.routes.responses.server_tools.web_search import TYPES as WEB_TYPES
from regate_gateway.routes.responses.server_tools.web_search import WebTool
from regate_orchestrator.errors import InvalidRequest

MAX_TOOLS: Final = 256
TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_MAX_NAME: Final = 128
_MAX_TEXT: Final = 1_000_000


class LeftOut(dict[str, Any]):
    """A tool that is shown, and not taken over."""


def without(tools: Any, omit: Collection[str]) -> Any:
    """Return the tools of a request, those marked that are left out: because the operator lists their type,
    or because that changes nothing.
    """
    if not isinstance(tools, list):
        return tools
    return [LeftOut(tool) if isinstance(tool, dict) and _is_left_out(tool, omit) else tool for tool in tools]


def _is_left_out(tool: Mapping[str, Any], omit: Collection[str]) -> bool:
    kind = tool.get("type")
    return isinstance(kind, str) and (kind in omit or is_vacuous(kind, tool))


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


def _require_name(name: str) -> str:
    if not TOOL_NAME.fullmatch(name):
        raise misfit(f"'{{place}}' must be 1 to {_MAX_NAME} of A-Z a-z 0-9 _ -")
    return name


ToolName = Annotated[
    str,
    Field(max_length=_MAX_NAME, json_schema_extra={"pattern": "^[A-Za-z0-9_-]{1,128}$"}),
    AfterValidator(_require_name),
]
_UNSUPPORTED: Final = ("defer_loading", "output_schema", "allowed_callers", "async")


class FunctionTool(RequestModel):
    """A function of the client's."""

    unsupported: ClassVar = _UNSUPPORTED
    declined: ClassVar = False

    type: Literal["function"]
    name: ToolName = Field(description="How the model calls it.")
    description: str | None = Field(None, max_length=_MAX_TEXT, description="What the model is told of it.")
    parameters: ContainedSchema | None = None
    strict: bool | None = Field(None, description="Whether arguments must fit the schema.")


class CustomFormat(RequestModel):
    """What the text is that a custom tool takes."""

    type: Literal["text", "grammar"] = Field("text", description="`grammar` needs the other two.")
    syntax: Literal["lark", "regex"] | None = Field(None, description="How the grammar is written.")
    definition: str | None = Field(None, max_length=_MAX_TEXT, description="The grammar.")

    @model_validator(mode="after")
    def _require_grammar(self) -> Self:
        for name in ("syntax", "definition"):
            if self.type == "grammar" and getattr(self, name) is None:
                text = "Missing required parameter: '{place}'."
                raise misfit(text, code="missing_required_parameter", member=name)
        return self


class CustomTool(RequestModel):
    """A tool of the client's that takes a text."""

    unsupported: ClassVar = _UNSUPPORTED
    declined: ClassVar = False

    type: Literal["custom"]
    name: ToolName = Field(description="How the model calls it.")
    description: str | None = Field(None, max_length=_MAX_TEXT, description="What the model is told of it.")
    format: CustomFormat | None = None


class NamespaceTool(RequestModel):
    """Tools of the client's whose names need be unique only here."""

    type: Literal["namespace"]
    name: ToolName = Field(description="The namespace.")
    description: str | None = Field(None, max_length=_MAX_TEXT, description="What it is for.")
    tools: list[
        Annotated[
            Annotated[FunctionTool, Tag("(function)")] | Annotated[CustomTool, Tag("(custom)")],
            ByType(
                {"function": "(function)", "custom": "(custom)"},
                "A namespace can hold tools of type 'function' and 'custom' only.",
            ),
        ]
    ] = Field(default_factory=list, max_length=MAX_TOOLS, description="The tools.")


_SHAPES: Final = {
    "function": "(function)",
    "custom": "(custom)",
    "namespace": "(namespace)",
    "file_search": "(search)",
    "mcp": "(mcp)",
    "code_interpreter": "(code)",
    "image_generation": "(image)",
    **dict.fromkeys(WEB_TYPES, "(web)"),
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
    | Annotated[CodeTool, Tag("(code)")]
    | Annotated[ImageGenerationTool, Tag("(image)")]
    | Annotated[SkipJsonSchema[Any], PlainValidator(_read_registered), Tag("(registered)")]
    | Annotated[SkipJsonSchema[dict[str, Any]], Tag("(left out)")],
    ByType(
        _SHAPES,
        "Tools of type '{kind}' are not supported by this gateway; use 'function', 'custom', 'namespace', "
        "'file_search', 'mcp', 'web_search', 'code_interpreter' or 'image_generation'.",
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
    "'{place}' can be 'allowed_tools', 'function', 'custom', 'mcp', 'file_search', 'web_search', "
    "'code_interpreter' or 'image_generation'."
)


def _choice(choice: Any) -> str | None:
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind in ("function", "custom"):
        return "(named)"
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
            Annotated[NamedTool, Tag("(named)")] | Annotated[NamedServerTool, Tag("(server)")],
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
        | Annotated[AllowedTools, Tag("(allowed)")],
        ByType({}, _CHOICES, code="invalid_value", shape=_any_choice),
        Tag("(object)"),
    ],
    TEXT_OR_OBJECT,
]
