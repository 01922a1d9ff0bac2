"""What the form of `POST /v1/files` says beside the file: what it is for, and when it expires. Nested fields are written in brackets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.file_intake import BATCH_EXPIRES_S

PURPOSES: Final = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")

_ANCHOR: Final = "expires_after[anchor]"
_SECONDS: Final = "expires_after[seconds]"
_LEAST_S: Final = 3_600
_MOST_S: Final = 30 * 86_400


@dataclass(frozen=True, slots=True)
class FileForm:
    """The fields, checked. `expires_in_s` is None for a file that stays until it is deleted."""

    purpose: str
    expires_in_s: int | None


def read_file_form(fields: Mapping[str, str]) -> FileForm:
    """Return what the fields say, all of which must be known."""
    for name in fields:
        if name not in {"purpose", _ANCHOR, _SECONDS}:
            raise InvalidRequest(f"'{name[:100]}' is not supported by this gateway.", param=name[:100], code="unknown_parameter")
    purpose = fields.get("purpose", "")
    if purpose not in PURPOSES:
        listed = ", ".join(f"'{one}'" for one in PURPOSES)
        raise InvalidRequest(f"'purpose' must be one of {listed}.", param="purpose", code="invalid_value")
    return FileForm(purpose, _expires_in(fields, purpose))


def _expires_in(fields: Mapping[str, str], purpose: str) -> int | None:
    anchor, seconds = fields.get(_ANCHOR), fields.get(_SECONDS)
    if anchor is None and seconds is None:
        return BATCH_EXPIRES_S if purpose == "batch" else None
    if anchor != "created_at":
        raise InvalidRequest("'expires_after[anchor]' must be 'created_at'.", param="expires_after.anchor", code="invalid_value")
    number = int(seconds) if seconds is not None and seconds.isascii() and seconds.isdigit() and len(seconds) <= 10 else 0
    if not _LEAST_S <= number <= _MOST_S:
        message = f"'expires_after[seconds]' must be a whole number from {_LEAST_S} to {_MOST_S}."
        raise InvalidRequest(message, param="expires_after.seconds", code="invalid_value")
    return number
