"""Tools of the API that the client runs: what a request may hold of them, and what a model is offered. What
clients send of their calls is `client_items.py`.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

from pydantic import Field, Tag

from regate_gateway.http.models import ByType, RequestModel
from regate_orchestrator.responses.client_tools.apply_patch import APPLY_PATCH, PATCH
from regate_orchestrator.responses.client_tools.computer import BATCH, COMPUTER, COMPUTER_PREVIEW, SINGLE
from regate_orchestrator.responses.client_tools.kind import ClientKind
from regate_orchestrator.responses.client_tools.shell import EXEC_ACTION, LOCAL_SHELL, SHELL, SHELL_ACTION
from regate_orchestrator.responses.request import ClientTool
from regate_orchestrator.values import JsonObject

_MAX_SKILLS: Final = 200
_USE_COMPUTER: Final = (
    "Use a computer: its mouse, keyboard and screen. You are shown the screen as it is after what you did. "
    "Positions are in pixels from the upper left corner."
)
_RUN_COMMANDS: Final = "Run commands in a shell on the user's machine. You are shown what they write."
_RUN_PROGRAM: Final = "Run a program on the user's machine. You are shown what it writes."
_CHANGE_FILE: Final = "Create, update or delete a file. One call changes one file."


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
