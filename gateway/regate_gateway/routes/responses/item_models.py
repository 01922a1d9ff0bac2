"""What items may hold that clients send: as a request's `input`, and into a conversation.

How they are taken over is `input_items.py`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, Tag, model_validator
from pydantic.json_schema import SkipJsonSchema

from regate_gateway.http.misfits import misfit
from regate_gateway.http.models import TEXT_OR_LIST, ByType, Id, RequestModel
from regate_orchestrator.documents.data_urls import parse
from regate_orchestrator.documents.file_text import parse_inline
from regate_orchestrator.errors import InvalidRequest

LONGEST: Final = 20 * 1024 * 1024
"""Characters of one string inside an item; the body as a whole has a limit of its own."""

_MAX_PARTS: Final = 1_000
_ROLES: Final = ("user", "system", "developer", "assistant")
_IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/jpg", "image/webp", "image/gif"})
_ADDRESS: Final = re.compile(r"https?://[^\s\x00-\x1f]{1,8192}")

Text = Annotated[str, Field(max_length=LONGEST)]


# ---------------------------------------------------------------- content parts


class TextPart(RequestModel):
    """A text. The role of its message says whether it went in or came out."""

    type: Literal["input_text", "output_text", "text"]
    text: Text = Field(description="The text.")
    annotations: Any = Field(None, description="Not taken over.")
    logprobs: Any = Field(None, description="Not taken over.")


class RefusalPart(RequestModel):
    """A model's refusal."""

    type: Literal["refusal"]
    refusal: Text = Field(description="What the model said instead.")


def _require_image(address: str) -> str:
    data = parse(address)
    if not (_ADDRESS.fullmatch(address) if data is None else data.media_type in _IMAGES and data.encoded):
        raise misfit("'{place}' must be a data URL of a PNG, JPEG, WebP or GIF image, or an http(s) address.")
    return address


ImageAddress = Annotated[Text, AfterValidator(_require_image)]
"""The address of an image: a data URL, or what an upstream might be permitted to fetch."""

Detail = Literal["auto", "low", "high", "original"]


def _exactly_one(part: RequestModel, first: str, *others: str) -> None:
    if sum(getattr(part, name) is not None for name in (first, *others)) != 1:
        *listed, last = (f"'{{within}}{name}'" for name in others)
        names = ", ".join(("'{place}'", *listed))
        raise misfit(f"Exactly one of {names} and {last} must be given.", member=first)


class ImagePart(RequestModel):
    """An image, by its address or by the id of a file."""

    type: Literal["input_image"]
    image_url: ImageAddress | None = Field(
        None, description="A data URL; an address where the policy or the upstream permits it."
    )
    file_id: Id | None = Field(None, description="A file of this gateway.")
    detail: Detail = Field("auto", description="How closely it is looked at.")

    @model_validator(mode="after")
    def _require_one(self) -> Self:
        _exactly_one(self, "image_url", "file_id")
        return self


def _require_address(address: str) -> str:
    if not _ADDRESS.fullmatch(address):
        raise misfit("'{place}' must be an http(s) address.")
    return address


def _require_inline(data: str) -> str:
    try:
        parse_inline(data, param="{place}")
    except InvalidRequest as error:
        raise misfit(error.message, code=error.code or InvalidRequest.code) from None
    return data


class FileSource(RequestModel):
    """A file, by its id or inline."""

    file_id: Id | None = Field(None, description="A file of this gateway. The model reads its text.")
    file_data: Annotated[Text, AfterValidator(_require_inline)] | None = Field(
        None, description="Base64, or a data URL."
    )
    filename: str | None = Field(None, max_length=512, description="What the file is called.")
    _sources: ClassVar[tuple[str, ...]] = ("file_id", "file_data")

    @model_validator(mode="after")
    def _require_one(self) -> Self:
        _exactly_one(self, *self._sources)
        return self

    @property
    def named(self) -> dict[str, str | None]:
        """Return the member that names the file, for one that is not inline."""
        return {"file_id": self.file_id}


class FilePart(FileSource):
    """A file in a message."""

    _sources: ClassVar[tuple[str, ...]] = ("file_id", "file_data", "file_url")

    type: Literal["input_file"]
    file_url: Annotated[str, AfterValidator(_require_address)] | None = Field(
        None, description="An http(s) address, fetched where the policy permits it."
    )
    detail: Any = Field(None, description="Files are read as text.")

    @property
    def named(self) -> dict[str, str | None]:
        """Return the member that names the file, for one that is not inline."""
        return super().named if self.file_url is None else {"file_url": self.file_url}


def _unsupported(role: str) -> str:
    return f"Content parts of type '{{kind}}' are not supported in messages of role '{role}'."


_TEXTS: Final = {"input_text": "(text)", "output_text": "(text)", "text": "(text)"}
UserPart = Annotated[
    Annotated[TextPart, Tag("(text)")]
    | Annotated[ImagePart, Tag("(image)")]
    | Annotated[FilePart, Tag("(file)")],
    ByType({**_TEXTS, "input_image": "(image)", "input_file": "(file)"}, _unsupported("user")),
]
AssistantPart = Annotated[
    Annotated[TextPart, Tag("(text)")] | Annotated[RefusalPart, Tag("(refusal)")],
    ByType({**_TEXTS, "refusal": "(refusal)"}, _unsupported("assistant")),
]
SystemPart = Annotated[Annotated[TextPart, Tag("(text)")], ByType(_TEXTS, _unsupported("system"))]
DeveloperPart = Annotated[Annotated[TextPart, Tag("(text)")], ByType(_TEXTS, _unsupported("developer"))]

UserContent = Annotated[
    Annotated[str, Tag("(text)")]
    | Annotated[list[UserPart], Tag("(list)"), Field(max_length=_MAX_PARTS, fail_fast=True)],
    TEXT_OR_LIST,
]
AssistantContent = Annotated[
    Annotated[str, Tag("(text)")]
    | Annotated[list[AssistantPart], Tag("(list)"), Field(max_length=_MAX_PARTS, fail_fast=True)],
    TEXT_OR_LIST,
]
SystemContent = Annotated[
    Annotated[str, Tag("(text)")]
    | Annotated[list[SystemPart], Tag("(list)"), Field(max_length=_MAX_PARTS, fail_fast=True)],
    TEXT_OR_LIST,
]
DeveloperContent = Annotated[
    Annotated[str, Tag("(text)")]
    | Annotated[list[DeveloperPart], Tag("(list)"), Field(max_length=_MAX_PARTS, fail_fast=True)],
    TEXT_OR_LIST,
]


# ---------------------------------------------------------------- items


class _Item(RequestModel):
    id: Any = Field(None, description="Not taken over: ids are minted here.")
    status: Any = Field(None, description="Not taken over.")


class _Message(_Item):
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


class _Call(_Item):
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


class CallOutput(_Item):
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


class Reasoning(_Item):
    """A model's reasoning."""

    type: Literal["reasoning"]
    summary: list[ReasoningText] = Field(
        default_factory=list, max_length=_MAX_PARTS, description="The reasoning in short."
    )
    content: list[ReasoningText] | None = Field(
        None, max_length=_MAX_PARTS, description="The reasoning as it was."
    )
    encrypted_content: Text | None = Field(None, description="The reasoning, sealed by this gateway.")


class Compaction(_Item):
    """A conversation, summarised and sealed by this gateway."""

    type: Literal["compaction"]
    encrypted_content: Text = Field(description="The summary, sealed.")


class FileSearchCall(_Item):
    """A search of an earlier turn. What a client says was found is no evidence, and is not taken over."""

    type: Literal["file_search_call"]
    queries: list[Text] = Field(default_factory=list, max_length=50, description="What was sought.")
    results: Any = Field(None, description="Not taken over.")


_MESSAGES: Final = {role: f"({role})" for role in _ROLES}
_SHAPES: Final = {
    "item_reference": "(reference)",
    "function_call": "(call)",
    "custom_tool_call": "(custom)",
    "function_call_output": "(output)",
    "custom_tool_call_output": "(output)",
    "reasoning": "(reasoning)",
    "compaction": "(compaction)",
    "file_search_call": "(search)",
}


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
    return _SHAPES.get(kind) if isinstance(kind, str) else None


InputItem = Annotated[
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
    | Annotated[FileSearchCall, Tag("(search)")],
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
