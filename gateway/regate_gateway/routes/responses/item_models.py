"""What items may hold that clients send: as a request's `input`, and into a conversation. Those of tools that
run here are in `server_tools/`, those of the API's tools that the client runs in
`client_items.py`.

How they are taken over is `input_items.py`.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

from pydantic import ConfigDict, Field, PlainValidator, Tag
from pydantic.json_schema import SkipJsonSchema

from regate_gateway.http.models import TEXT_OR_LIST, ByType, Id, RequestModel
from regate_gateway.routes.responses.client_items import SHAPES as CLIENT_SHAPES
from regate_gateway.routes.responses.client_items import ClientItem
from regate_gateway.routes.responses.part_models import (
    MAX_PARTS,
    AssistantContent,
    DeveloperContent,
    Item,
    SystemContent,
    Text,
    UserContent,
)
from regate_gateway.routes.responses.server_tools.mcp import (
    McpApprovalRequest,
    McpApprovalResponse,
    McpListTools,
)
from regate_gateway.routes.responses.server_tools.registry import ITEMS
from regate_gateway.routes.responses.tool_search import SHAPES as SEARCH_SHAPES
from regate_gateway.routes.responses.tool_search import SearchItem

_ROLES: Final = ("user", "system", "developer", "assistant")


class _Message(Item):
    type: Literal["message"] = Field("message")
    phase: Literal["commentary", "final_answer"] | None = Field(None, description="Repeated as it is.")


class UserMessage(_Message):
    """What the user says."""

    role: Literal["user"]
    content: UserContent = Field(description="A text, or parts.")


class AssistantMessage(_Message):
    """What a model said. One that said nothing has null, as in the chat completion that it came from."""

    nullable: ClassVar = frozenset({"content"})

    role: Literal["assistant"]
    content: AssistantContent | None = Field(description="A text, or parts.")


class SystemMessage(_Message):
    """Instructions."""

    role: Literal["system"]
    content: SystemContent = Field(description="A text, or parts.")


class DeveloperMessage(_Message):
    """Instructions of the application's."""

    role: Literal["developer"]
    content: DeveloperContent = Field(description="A text, or parts.")


class StrayMessage(_Message):
    """A message of no role that there is."""

    role: Literal["user", "system", "developer", "assistant"]
    content: Any = None


class ItemReference(RequestModel):
    """A stored item, which is looked up and decided."""

    type: Literal["item_reference"] = "item_reference"
    id: Id = Field(description="The id of the item.")


class _Call(Item):
    unsupported: ClassVar = ("caller",)

    call_id: Id = Field(description="What the output of the call names.")
    name: Id = Field(description="The tool.")
    namespace: Id | None = Field(None, description="The namespace of the tool.")


class FunctionCall(_Call):
    """A function that the model called."""

    type: Literal["function_call"]
    arguments: Text | None = Field(None, description="JSON.")


class CustomToolCall(_Call):
    """A custom tool that the model called."""

    type: Literal["custom_tool_call"]
    input: Text | None = Field(None, description="The tool's whole input.")


class CallOutput(Item):
    """What a tool of the client's returned."""

    type: Literal["function_call_output", "custom_tool_call_output"]
    call_id: Id = Field(description="The call that it is the output of.")
    output: UserContent = Field(description="A text, or parts.")
    name: Any = Field(None, description="Not taken over.")
    namespace: Any = Field(None, description="Not taken over.")


class ReasoningText(RequestModel):
    """A text of a model's reasoning. What is beside it is not taken over."""

    model_config = ConfigDict(extra="ignore")

    type: Any = Field(None, description="`summary_text`, or `reasoning_text`.")
    text: Text = Field(description="The text.")


class Reasoning(Item):
    """A model's reasoning."""

    type: Literal["reasoning"]
    summary: list[ReasoningText] = Field(
        default_factory=list, max_length=MAX_PARTS, description="The reasoning in short."
    )
    content: list[ReasoningText] | None = Field(
        None, max_length=MAX_PARTS, description="The reasoning as it was."
    )
    encrypted_content: Text | None = Field(None, description="The reasoning, sealed by this gateway.")


class Compaction(Item):
    """A conversation, summarised and sealed by this gateway."""

    type: Literal["compaction"]
    encrypted_content: Text = Field(description="The summary, sealed.")


_MESSAGES: Final = {role: f"({role})" for role in _ROLES}
_SHAPES: Final = {
    "item_reference": "(reference)",
    "function_call": "(call)",
    "custom_tool_call": "(custom)",
    "function_call_output": "(output)",
    "custom_tool_call_output": "(output)",
    "reasoning": "(reasoning)",
    "compaction": "(compaction)",
    "mcp_list_tools": "(listing)",
    "mcp_approval_request": "(asked)",
    "mcp_approval_response": "(answer)",
    **CLIENT_SHAPES,
    **SEARCH_SHAPES,
}


def _read_registered(item: Any) -> RequestModel:
    registration = ITEMS[item["type"]]
    return registration.item_model.model_validate(item)


def _shape(item: Any) -> str | None:
    """Return the shape of an item, which of a message is that of its role. One that names no type is a
    message in the easy form, or a bare reference.
    """
    if not isinstance(item, dict):
        return None
    kind, role = item.get("type"), item.get("role")
    if kind == "message" or (kind is None and role is not None):
        return _MESSAGES.get(role, "(message)") if isinstance(role, str) else "(message)"
    if kind is None:
        return "(reference)" if item.get("id") is not None and item.keys() <= {"type", "id"} else None
    if not isinstance(kind, str):
        return None
    return _SHAPES.get(kind) or ("(ran here)" if kind in ITEMS else None)


OwnItem: TypeAlias = (
    Annotated[UserMessage, Tag("(user)")]
    | Annotated[AssistantMessage, Tag("(assistant)")]
    | Annotated[SystemMessage, Tag("(system)")]
    | Annotated[DeveloperMessage, Tag("(developer)")]
    | Annotated[SkipJsonSchema[StrayMessage], Tag("(message)")]
    | Annotated[ItemReference, Tag("(reference)")]
    | Annotated[FunctionCall, Tag("(call)")]
    | Annotated[CustomToolCall, Tag("(custom)")]
    | Annotated[CallOutput, Tag("(output)")]
    | Annotated[Reasoning, Tag("(reasoning)")]
    | Annotated[Compaction, Tag("(compaction)")]
    | Annotated[McpListTools, Tag("(listing)")]
    | Annotated[McpApprovalRequest, Tag("(asked)")]
    | Annotated[McpApprovalResponse, Tag("(answer)")]
)
"""An item that is neither a call of a tool that runs here, nor in `client_items.py`."""

InputItem = Annotated[
    OwnItem
    | ClientItem
    | SearchItem
    | Annotated[SkipJsonSchema[Any], PlainValidator(_read_registered), Tag("(ran here)")],
    ByType(
        _SHAPES,
        "Items of type '{kind}' are not supported by this gateway.",
        shape=_shape,
        untyped=True,
    ),
]

Input = Annotated[
    Annotated[str, Tag("(text)")]
    | Annotated[list[InputItem], Tag("(list)"), Field(max_length=10_000, fail_fast=True)],
    TEXT_OR_LIST,
]
"""A text of the user's, or items."""
