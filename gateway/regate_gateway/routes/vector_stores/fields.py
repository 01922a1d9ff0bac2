"""Fields that several routes of vector stores take: how a file is split, when a store expires, which
files are wanted in it.
"""

from __future__ import annotations

from typing import Final, Literal, cast

from regate_gateway.http.fields import Fields
from regate_orchestrator.documents.attachments import Wanted
from regate_orchestrator.documents.attributes import split_attributes
from regate_orchestrator.documents.chunking import Chunking
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.filters.expression import Scalar
from regate_orchestrator.values import FileId

MAX_IN_A_BATCH: Final = 2_000


def read_chunking(fields: Fields) -> Chunking | None:
    """Return how files are split (OpenAI, "chunking_strategy"); None where that is left to us."""
    strategy = fields.maybe_object("chunking_strategy")
    if strategy is None:
        return None
    strategy.refuse_unknown({"type", "static"})
    if strategy.choice("type", ("auto", "static"), default="auto") == "auto":
        return None
    static = strategy.object("static")
    static.refuse_unknown({"max_chunk_size_tokens", "chunk_overlap_tokens"})
    size = static.integer("max_chunk_size_tokens", least=100, most=4096, default=800)
    overlap = static.integer("chunk_overlap_tokens", least=0, most=4096, default=400)
    if overlap * 2 > size:
        place = static.param("chunk_overlap_tokens")
        raise InvalidRequest(
            f"'{place}' must be at most half of 'max_chunk_size_tokens'.", param=place, code="invalid_value"
        )
    return Chunking(size, overlap)


def read_expiry(fields: Fields) -> int | Literal["never"] | None:
    """Return after how many days without use a store expires: `never` for null, which takes an expiry
    off, and None when nothing is said.
    """
    if "expires_after" in fields.values and not fields.has("expires_after"):
        return "never"
    expiry = fields.maybe_object("expires_after")
    if expiry is None:
        return None
    expiry.refuse_unknown({"anchor", "days"})
    expiry.choice("anchor", ("last_active_at",), default=None)
    expiry.required("days")
    return expiry.integer("days", least=1, most=365, default=1)


def read_wanted(fields: Fields) -> Wanted:
    """Return the one file that is wanted in a store, with its attributes and how it is split."""
    file = FileId(fields.id("file_id"))
    return _wanted(file, fields, param=fields.param("file_id"))


def read_many_wanted(fields: Fields) -> list[Wanted]:
    """Return the files of a batch: those of `file_ids`, which share attributes and splitting, or those of
    `files`, which have their own.

    A file that is named twice in the same way is wanted once.
    """
    if fields.has("file_ids") and fields.has("files"):
        raise InvalidRequest(
            "'file_ids' and 'files' are mutually exclusive.",
            param="files",
            code="mutually_exclusive_parameters",
        )
    if fields.has("files"):
        found = []
        for one in fields.objects("files", most=MAX_IN_A_BATCH):
            one.refuse_unknown({"file_id", "attributes", "chunking_strategy"})
            found.append(read_wanted(one))
    else:
        fields.required("file_ids")
        names = fields.ids("file_ids", most=MAX_IN_A_BATCH)
        found = [
            _wanted(FileId(name), fields, param=f"file_ids[{index}]") for index, name in enumerate(names)
        ]
    if not found:
        raise InvalidRequest(
            "A batch must have at least one file.",
            param="files" if fields.has("files") else "file_ids",
            code="invalid_value",
        )
    return _distinct(found)


def read_plain_wanted(fields: Fields, *, most: int) -> list[Wanted]:
    """Return the files that a new store is made with, none when there are none."""
    names = fields.ids("file_ids", most=most)
    chunking = read_chunking(fields)
    nothing = split_attributes({}, param="attributes")
    return _distinct([Wanted(FileId(name), {}, nothing, chunking, "file_ids") for name in names])


def _wanted(file: FileId, fields: Fields, *, param: str) -> Wanted:
    attributes = fields.maybe_object("attributes")
    sent = {} if attributes is None else attributes.values
    split = split_attributes(sent, param=fields.param("attributes"))
    return Wanted(file, cast("dict[str, Scalar]", sent), split, read_chunking(fields), param)


def _distinct(found: list[Wanted]) -> list[Wanted]:
    wanted: dict[FileId, Wanted] = {}
    for one in found:
        known = wanted.setdefault(one.file_id, one)
        if (known.sent, known.chunking) != (one.sent, one.chunking):
            raise InvalidRequest(
                f"'{one.param}' names a file that is named before, with other attributes.",
                param=one.param,
                code="invalid_value",
            )
    return list(wanted.values())
