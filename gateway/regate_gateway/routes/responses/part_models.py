"""What the content of messages and of tools' outputs may hold, and what any item may.

How it is taken over is `input_items.py`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, Tag, model_validator
from pydantic.json_schema import SkipJsonSchema

from regate_gateway.http.misfits import misfit
from regate_gateway.http.models import TEXT_OR_LIST, ByType, Id, RequestModel
from regate_orchestrator.documents.data_urls import parse
from regate_orchestrator.documents.file_text import parse_inline
from regate_orchestrator.errors import InvalidRequest

LONGEST: Final = 20 * 1024 * 1024
"""Characters of one string inside an item; the body as a whole has a limit of its own."""

MAX_PARTS: Final = 1_000
_IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/jpg", "image/webp", "image/gif"})
_IMAGE_ADDRESS: Final = re.compile(r"https?://[^\s\x00-\x1f]{1,8192}")

Text = Annotated[str, Field(max_length=LONGEST)]


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
    if not (
        _IMAGE_ADDRESS.fullmatch(address) if data is None else data.media_type in _IMAGES and data.encoded
    ):
        raise misfit("'{place}' must be a data URL of a PNG, JPEG, WebP or GIF image, or an http(s) address.")
    return address


ImageAddress = Annotated[Text, AfterValidator(_require_image)]
"""The address of an image: a data URL, or what an upstream might be permitted to fetch."""

Detail = Literal["auto", "low", "high", "original"]


def _exactly_one(part: RequestModel, first: str, second: str) -> None:
    if (getattr(part, first) is None) == (getattr(part, second) is None):
        raise misfit(f"Exactly one of '{{place}}' and '{{within}}{second}' must be given.", member=first)


class ImagePart(RequestModel):
    """An image, by its address or by the id of a file."""

    type: Literal["input_image"]
    image_url: ImageAddress | None = Field(
        None, description="A data URL; an address only where an upstream may fetch it."
    )
    file_id: Id | None = Field(None, description="A file of this gateway.")
    detail: Detail = Field("auto", description="How closely it is looked at.")

    @model_validator(mode="after")
    def _require_one(self) -> Self:
        _exactly_one(self, "image_url", "file_id")
        return self


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

    @model_validator(mode="after")
    def _require_one(self) -> Self:
        _exactly_one(self, "file_id", "file_data")
        return self


def _refuse_address(value: Any) -> Any:
    # Nothing is fetched on a client's word (server-side request forgery)
    if value is not None:
        text = "'{place}' is not supported: upload the file, or send it as 'file_data'."
        raise misfit(text, code="unsupported_parameter")
    return value


class FilePart(FileSource):
    """A file in a message."""

    type: Literal["input_file"]
    file_url: SkipJsonSchema[Annotated[Any, AfterValidator(_refuse_address)]] = None
    detail: Any = Field(None, description="Files are read as text.")


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
    | Annotated[list[UserPart], Tag("(list)"), Field(max_length=MAX_PARTS, fail_fast=True)],
    TEXT_OR_LIST,
]
AssistantContent = Annotated[
    Annotated[str, Tag("(text)")]
    | Annotated[list[AssistantPart], Tag("(list)"), Field(max_length=MAX_PARTS, fail_fast=True)],
    TEXT_OR_LIST,
]
SystemContent = Annotated[
    Annotated[str, Tag("(text)")]
    | Annotated[list[SystemPart], Tag("(list)"), Field(max_length=MAX_PARTS, fail_fast=True)],
    TEXT_OR_LIST,
]
DeveloperContent = Annotated[
    Annotated[str, Tag("(text)")]
    | Annotated[list[DeveloperPart], Tag("(list)"), Field(max_length=MAX_PARTS, fail_fast=True)],
    TEXT_OR_LIST,
]


class Item(RequestModel):
    """What any item may say of itself."""

    id: Any = Field(None, description="Not taken over: ids are minted here.")
    status: Any = Field(None, description="Not taken over.")
