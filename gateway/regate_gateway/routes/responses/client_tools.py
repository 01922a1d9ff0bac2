"""Tools that the client runs, those that it describes and those of the API: what a request may hold of them,
and what a model is offered. What clients send of their calls is `item_models.py` and `client_items.py`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, Tag, model_validator

from regate_gateway.http.misfits import misfit
from regate_gateway.http.models import ByType, RequestModel
from regate_gateway.routes.json_schemas import ContainedSchema
from regate_orchestrator.responses.client_tools.apply_patch import APPLY_PATCH, PATCH
from regate_orchestrator.responses.client_tools.computer import BATCH, COMPUTER, COMPUTER_PREVIEW, SINGLE
from regate_orchestrator.responses.client_tools.kind import ClientKind
from regate_orchestrator.responses.client_tools.shell import EXEC_ACTION, LOCAL_SHELL, SHELL, SHELL_ACTION
from regate_orchestrator.responses.request import ClientTool
from regate_orchestrator.values import JsonObject

MAX_TOOLS: Final = 256
TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_MAX_NAME: Final = 128
_MAX_TEXT: Final = 1_000_000
_MAX_SKILLS: Final = 200
_USE_COMPUTER: Final = (
    "Use a computer: its mouse, keyboard and screen. You are shown the screen as it is after what you did. "
    "Positions are in pixels from the upper left corner."
)
_RUN_COMMANDS: Final = "Run commands in a shell on the user's machine. You are shown what they write."
_RUN_PROGRAM: Final = "Run a program on the user's machine. You are shown what it writes."
_CHANGE_FILE: Final = "Create, update or delete a file. One call changes one file."


# ---------------------------------------------------------------- described by the client


def _require_name(name: str) -> str:
    if not TOOL_NAME.fullmatch(name):
        raise misfit(f"'{{place}}' must be 1 to {_MAX_NAME} of A-Z a-z 0-9 _ -")
    return name


ToolName = Annotated[
    str,
    Field(max_length=_MAX_NAME, json_schema_extra={"pattern": "^[A-Za-z0-9_-]{1,128}$"}),
    AfterValidator(_require_name),
]
_UNSUPPORTED: Final = ("output_schema", "allowed_callers", "async")


_DEFER: Final = Field(
    False, description="Whether the tool is found by `tool_search`, and offered from then on."
)


class FunctionTool(RequestModel):
    """A function of the client's."""

    unsupported: ClassVar = _UNSUPPORTED
    declined: ClassVar = False

    type: Literal["function"]
    name: ToolName = Field(description="How the model calls it.")
    description: str | None = Field(None, max_length=_MAX_TEXT, description="What the model is told of it.")
    parameters: ContainedSchema | None = None
    strict: bool | None = Field(None, description="Whether arguments must fit the schema.")
    defer_loading: bool = _DEFER

    @property
    def shown(self) -> JsonObject:
        """Return how the API shows the tool."""
        return {**_shown(self), "parameters": self.parameters, "strict": self.strict}


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
    defer_loading: bool = _DEFER

    @property
    def shown(self) -> JsonObject:
        """Return how the API shows the tool."""
        wanted = {"type": "text"} if self.format is None else self.format.model_dump(exclude_none=True)
        return {**_shown(self), "format": wanted}


def _shown(tool: FunctionTool | CustomTool) -> JsonObject:
    shown: JsonObject = {"type": tool.type, "name": tool.name, "description": tool.description}
    return {**shown, "defer_loading": True} if tool.defer_loading else shown


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

    @property
    def shown(self) -> JsonObject:
        """Return how the API shows the tools."""
        shown: JsonObject = {"type": self.type, "name": self.name, "description": self.description}
        return {**shown, "tools": [member.shown for member in self.tools]}


# ---------------------------------------------------------------- known to the API


class OfferedTool(RequestModel):
    """A tool of the API that the client runs."""

    @property
    def offered(self) -> ClientTool:
        """Return what a model is offered."""
        raise NotImplementedError


class ComputerTool(OfferedTool):
    """A computer of the client's."""

    type: Literal["computer"]

    @property
    def offered(self) -> ClientTool:
        """Return what a model is offered."""
        return _tool(COMPUTER, _USE_COMPUTER, BATCH)


class ComputerPreviewTool(OfferedTool):
    """A computer of the client's, as earlier models know it: one action a call."""

    type: Literal["computer_use_preview"]
    display_width: int = Field(ge=1, le=100_000, description="In pixels.")
    display_height: int = Field(ge=1, le=100_000, description="In pixels.")
    environment: Literal["windows", "mac", "linux", "ubuntu", "browser"] = Field(description="What it is.")

    @property
    def offered(self) -> ClientTool:
        """Return what a model is offered."""
        about = f"The screen has {self.display_width} x {self.display_height} pixels ({self.environment})."
        return _tool(COMPUTER_PREVIEW, f"{_USE_COMPUTER} {about}", SINGLE)


class Skill(RequestModel):
    """Instructions and scripts on the client's machine."""

    name: str = Field(max_length=256, description="What it is called.")
    description: str = Field(max_length=4096, description="What it is for.")
    path: str = Field(max_length=4096, description="The directory that holds it.")


class LocalEnvironment(RequestModel):
    """The client's machine."""

    type: Literal["local"]
    skills: list[Skill] = Field(default_factory=list, max_length=_MAX_SKILLS, description="What is there.")


class ShellTool(OfferedTool):
    """A shell on the client's machine."""

    unsupported: ClassVar = ("allowed_callers",)

    type: Literal["shell"]
    environment: (
        Annotated[
            Annotated[LocalEnvironment, Tag("(local)")],
            ByType({"local": "(local)"}, "'{place}' can only be 'local': this gateway has no containers."),
        ]
        | None
    ) = Field(None, description="Where commands run.")

    @property
    def offered(self) -> ClientTool:
        """Return what a model is offered."""
        skills = [] if self.environment is None else self.environment.skills
        lines = [f"- {one.name}: {one.description} ({one.path})" for one in skills]
        about = "\n".join([_RUN_COMMANDS, "Skills, each with the directory that holds it:", *lines])
        return _tool(SHELL, about if lines else _RUN_COMMANDS, SHELL_ACTION)


class LocalShellTool(OfferedTool):
    """Programs on the client's machine."""

    type: Literal["local_shell"]

    @property
    def offered(self) -> ClientTool:
        """Return what a model is offered."""
        return _tool(LOCAL_SHELL, _RUN_PROGRAM, EXEC_ACTION)


class ApplyPatchTool(OfferedTool):
    """Changes of files that the client makes."""

    unsupported: ClassVar = ("allowed_callers",)

    type: Literal["apply_patch"]

    @property
    def offered(self) -> ClientTool:
        """Return what a model is offered."""
        return _tool(APPLY_PATCH, _CHANGE_FILE, PATCH)


ClientRunTool: TypeAlias = (
    Annotated[ComputerTool, Tag("(computer)")]
    | Annotated[ComputerPreviewTool, Tag("(computer preview)")]
    | Annotated[ShellTool, Tag("(shell)")]
    | Annotated[LocalShellTool, Tag("(local shell)")]
    | Annotated[ApplyPatchTool, Tag("(apply patch)")]
)
SHAPES: Final[dict[str, str]] = {
    "computer": "(computer)",
    "computer_use_preview": "(computer preview)",
    "shell": "(shell)",
    "local_shell": "(local shell)",
    "apply_patch": "(apply patch)",
}
"""Their shapes by their types."""
CHOSEN: Final[dict[str, ClientKind]] = {
    "computer": COMPUTER,
    "computer_use": COMPUTER,
    "computer_use_preview": COMPUTER,
    "shell": SHELL,
    "local_shell": LOCAL_SHELL,
    "apply_patch": APPLY_PATCH,
}
"""What `tool_choice` may name by a type alone."""


class NamedClientTool(RequestModel):
    """A tool that the client runs, by its type."""

    type: Annotated[str, Field(json_schema_extra={"enum": [*CHOSEN]})] = Field(description="Its type.")
    name: Any = Field(None, description="Not taken over.")


def _tool(kind: ClientKind, description: str, parameters: JsonObject) -> ClientTool:
    return ClientTool(kind.type, description, parameters, None, kind)
