"""What requests to `/v1/files` and `/v1/uploads` may hold."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from regate_gateway.http.misfits import misfit
from regate_gateway.http.models import Id, RequestModel
from regate_gateway.routes.models import ListQuery
from regate_orchestrator.documents.upload_parts import MAX_PARTS
from regate_orchestrator.documents.uploads import BATCH_EXPIRES_SECONDS

Purpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
_MD5: Final = re.compile(r"[0-9A-Fa-f]{32}")


class FilesQuery(ListQuery):
    """Which files are listed."""

    limit: int = Field(10_000, ge=1, le=10_000, description="How many there are on a page.")
    purpose: Literal[Purpose, ""] = Field("", description="Only files for this purpose.")


class FileExpiry(RequestModel):
    """When a file expires (OpenAI, "expires_after")."""

    anchor: Literal["created_at"] = Field(description="What the time is counted from.")
    seconds: int = Field(ge=3_600, le=30 * 86_400, description="How long the file stays.")


def expires_in(expiry: FileExpiry | None, purpose: str) -> int | None:
    """Return how many seconds a file is to stay, or None where it stays until it is deleted."""
    if expiry is None:
        return BATCH_EXPIRES_SECONDS if purpose == "batch" else None
    return expiry.seconds


class UploadRequest(RequestModel):
    """A file that comes in parts."""

    filename: str = Field(max_length=1_024, description="1 to 255 printable characters, without folders.")
    purpose: Purpose = Field(description="What the file is for.")
    bytes: int = Field(ge=1, le=2**53 - 1, description="How large the whole file is.")
    mime_type: str = Field(max_length=255, description="The media type of the file.")
    expires_after: FileExpiry | None = Field(None, description="Without it, a file stays.")


def _require_md5(text: str) -> str:
    if not _MD5.fullmatch(text):
        raise misfit("'{place}' must be 32 hexadecimal digits.")
    return text


class CompleteRequest(RequestModel):
    """The end of an upload in parts."""

    part_ids: list[Id] = Field(
        max_length=MAX_PARTS,
        description="The parts in the order in which they make the file.",
        json_schema_extra={"minItems": 1},
    )
    md5: Annotated[str, Field(max_length=64), AfterValidator(_require_md5)] | None = Field(
        None, description="The checksum of the whole file, in hexadecimal digits."
    )
