"""What the content of messages and of tools' outputs may hold, and what any item may.

How it is taken over is `input_items.py`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, Field, Tag, model_validator

from regate_gateway.http.misfits import misfit
from regate_gateway.http.models import TEXT_OR_LIST, ByType, Id, RequestModel
from regate_orchestrator.documents.data_urls import parse
from regate_orchestrator.documents.file_text import parse_inline
from regate_orchestrator.errors import InvalidRequest

LONGEST: Final = 20 * 1024 * 1024
"""Characters of one string inside an item; the body as a whole has a limit of its own."""

MAX_PARTS: Final = 1_000
_IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/jpg", "image/webp", "image/gif"})
_ADDRESS: Final = re.compile(r"https?://[^\s\x00-\x1f]{1,8192}")

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
