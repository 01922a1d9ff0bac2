"""Calls of the API's tools that the client runs, and what they came to, as clients send them."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeAlias

from pydantic import Field, Tag, model_validator

from regate_gateway.http.misfits import misfit
from regate_gateway.http.models import Id, RequestModel
from regate_gateway.routes.responses.part_models import MAX_PARTS, ImageAddress, Item, Text
from regate_orchestrator.responses.client_tools.apply_patch import APPLY_PATCH
from regate_orchestrator.responses.client_tools.computer import COMPUTER, COMPUTER_PREVIEW
from regate_orchestrator.responses.client_tools.kind import ClientKind
from regate_orchestrator.responses.client_tools.shell import LOCAL_SHELL, SHELL
from regate_orchestrator.values import Json, JsonObject, mint

Action: TypeAlias = dict[str, Any]


class _Of(Item):
    unsupported: ClassVar = ("caller",)

    created_by: Any = Field(None, description="Not taken over.")


class _Call(_Of):
    kind: ClassVar[ClientKind]
    asked: ClassVar[str]
    """The member that says what the model asked for."""

    call_id: Id = Field(description="What the output of the call names.")

    @model_validator(mode="after")
    def _require_fitting(self) -> Self:
        if self.members is None:
            text = f"'{{place}}' must be what this gateway says in a '{self.kind.item_type}'."
            raise misfit(text, member=self.asked)
        return self

    @property
    def said(self) -> Json:
        """Return what the model asked for, as it wrote it."""
        said: Json = getattr(self, self.asked)
        return said

    @property
    def members(self) -> JsonObject | None:
        """Return what of the item is its kind's; None where that does not fit."""
        return self.kind.members(json.dumps(self.said))

    def taken_over(self) -> JsonObject:
        """Return the item in the API's shape."""
        kind = self.kind
        head = {"id": mint(kind.id_prefix), "type": kind.item_type, "status": "completed"}
        return {**head, "call_id": self.call_id, **(self.members or {})}


class ComputerCall(_Call):
    """What the model did with a computer."""

    kind: ClassVar = COMPUTER
    asked: ClassVar = "actions"

    type: Literal["computer_call"]
    action: Action | None = Field(None, description="What was done.")
    actions: list[Action] | None = Field(None, max_length=MAX_PARTS, description="What was done, in order.")
    pending_safety_checks: Any = Field(None, description="Not taken over.")

    @property
    def members(self) -> JsonObject | None:
        """Return what of the item is its kind's; None where that does not fit."""
        if self.actions is not None:
            return COMPUTER.members(json.dumps({"actions": self.actions}))
        return COMPUTER_PREVIEW.members(json.dumps({"action": self.action}))


class ShellCall(_Call):
    """Commands that the model ran."""

    kind: ClassVar = SHELL
    asked: ClassVar = "action"

    type: Literal["shell_call"]
    action: Action = Field(description="The commands, and their limits.")
    environment: Any = Field(None, description="Not taken over.")


class LocalShellCall(_Call):
    """A program that the model ran."""

    kind: ClassVar = LOCAL_SHELL
    asked: ClassVar = "action"

    type: Literal["local_shell_call"]
    action: Action = Field(description="The program, and how it is run.")


class ApplyPatchCall(_Call):
    """A change of a file that the model asked for."""

    kind: ClassVar = APPLY_PATCH
    asked: ClassVar = "operation"

    type: Literal["apply_patch_call"]
    operation: Action = Field(description="The change.")

    @property
    def said(self) -> Json:
        """Return what the model asked for, as it wrote it."""
        return {"operation": self.operation}


class _Output(_Of):
    kind: ClassVar[ClientKind]

    call_id: Id = Field(description="The call that it is the output of.")

    @property
    def shown(self) -> JsonObject:
        """Return what the output says."""
        raise NotImplementedError

    def taken_over(self) -> JsonObject:
        """Return the item in the API's shape."""
        kind = self.kind
        head = {"id": mint(kind.output_prefix), "type": kind.output_type, "status": "completed"}
        return {**head, "call_id": self.call_id, **self.shown}


class Screenshot(RequestModel):
    """A picture of the screen, by its address or by the id of a file."""

    type: Literal["computer_screenshot", "input_image"]
    image_url: ImageAddress | None = Field(
        None, description="A data URL; an address where the policy or the upstream permits it."
    )
    file_id: Id | None = Field(None, description="A file of this gateway.")
    detail: Any = Field(None, description="Not taken over.")

    @model_validator(mode="after")
    def _require_one(self) -> Self:
        if (self.image_url is None) == (self.file_id is None):
            text = "Exactly one of '{place}' and '{within}file_id' must be given."
            raise misfit(text, member="image_url")
        return self


class ComputerCallOutput(_Output):
    """The screen after a call."""

    kind: ClassVar = COMPUTER

    type: Literal["computer_call_output"]
    output: Screenshot = Field(description="A picture of the screen.")
    acknowledged_safety_checks: Any = Field(None, description="Not taken over.")

    @property
    def shown(self) -> JsonObject:
        """Return what the output says."""
        source = self.output.model_dump(include={"image_url", "file_id"}, exclude_none=True)
        return {"output": {"type": "computer_screenshot", **source}}


class Outcome(RequestModel):
    """How commands ended."""

    type: Literal["exit", "timeout"]
    exit_code: int | None = Field(None, ge=-(2**31), lt=2**32, description="Of one that ended by itself.")

    @model_validator(mode="after")
    def _require_exit(self) -> Self:
        # Clients that ended a command by themselves know no code.
        if self.exit_code is not None and self.type != "exit":
            raise misfit("'{place}' goes with 'exit' only.", member="exit_code")
        return self


class Written(RequestModel):
    """What a command wrote."""

    stdout: Text = Field(description="To its output.")
    stderr: Text = Field(description="To its output for errors.")
    outcome: Outcome = Field(description="How it ended.")
    created_by: Any = Field(None, description="Not taken over.")


class ShellCallOutput(_Output):
    """What commands wrote."""

    kind: ClassVar = SHELL

    type: Literal["shell_call_output"]
    output: list[Written] = Field(max_length=MAX_PARTS, description="What each wrote.")
    max_output_length: int | None = Field(None, ge=0, le=2**53, description="Repeated as it is.")

    @property
    def shown(self) -> JsonObject:
        """Return what the output says."""
        output = [one.model_dump(exclude={"created_by"}, exclude_none=True) for one in self.output]
        return {"output": output, "max_output_length": self.max_output_length}


class LocalShellCallOutput(Item):
    """What a program wrote. Some clients name the call in `id`."""

    type: Literal["local_shell_call_output"]
    call_id: Id | None = Field(None, description="The call that it is the output of.")
    id: Id | None = Field(None, description="The call, where `call_id` is absent.")
    output: Text = Field(description="What was written, often as JSON.")

    @model_validator(mode="after")
    def _require_call(self) -> Self:
        if self.call_id is None and self.id is None:
            text = "Missing required parameter: '{place}'."
            raise misfit(text, code="missing_required_parameter", member="call_id")
        return self

    def taken_over(self) -> JsonObject:
        """Return the item in the API's shape."""
        kind = LOCAL_SHELL
        head = {"id": mint(kind.output_prefix), "type": kind.output_type, "status": "completed"}
        return {**head, "call_id": self.call_id or self.id, "output": self.output}


class ApplyPatchCallOutput(_Output):
    """What became of a change."""

    kind: ClassVar = APPLY_PATCH

    type: Literal["apply_patch_call_output"]
    status: Literal["completed", "failed"] = Field(description="Whether it was made.")
    output: Text | None = Field(None, description="More about it.")

    @property
    def shown(self) -> JsonObject:
        """Return what the output says."""
        return {"status": self.status, "output": self.output}


ClientItem: TypeAlias = (
    Annotated[ComputerCall, Tag("(computer call)")]
    | Annotated[ComputerCallOutput, Tag("(computer output)")]
    | Annotated[ShellCall, Tag("(shell call)")]
    | Annotated[ShellCallOutput, Tag("(shell output)")]
    | Annotated[LocalShellCall, Tag("(local shell call)")]
    | Annotated[LocalShellCallOutput, Tag("(local shell output)")]
    | Annotated[ApplyPatchCall, Tag("(patch call)")]
    | Annotated[ApplyPatchCallOutput, Tag("(patch output)")]
)
SHAPES: Final[dict[str, str]] = {
    "computer_call": "(computer call)",
    "computer_call_output": "(computer output)",
    "shell_call": "(shell call)",
    "shell_call_output": "(shell output)",
    "local_shell_call": "(local shell call)",
    "local_shell_call_output": "(local shell output)",
    "apply_patch_call": "(patch call)",
    "apply_patch_call_output": "(patch output)",
}
"""Their shapes by their types."""
