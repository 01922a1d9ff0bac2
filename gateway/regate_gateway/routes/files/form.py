"""What the form of `POST /v1/files` says beside the file: what it is for, and when it expires. Nested
fields are written in brackets, or as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import orjson

from regate_gateway.http.fields import Fields
from regate_orchestrator.documents.uploads import BATCH_EXPIRES_SECONDS
from regate_orchestrator.errors import InvalidRequest

PURPOSES: Final = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")

_WHOLE: Final = "expires_after"
_ANCHOR: Final = "expires_after[anchor]"
_SECONDS: Final = "expires_after[seconds]"
_KNOWN: Final = ("purpose", _WHOLE, _ANCHOR, _SECONDS)
_MIN_SECONDS: Final = 3_600
_MAX_SECONDS: Final = 30 * 86_400


@dataclass(frozen=True, slots=True)
class FileForm:
    """The fields, checked. `expires_in_s` is None for a file that stays until it is deleted."""

    purpose: str
    expires_in_s: int | None


def read_file_form(fields: Mapping[str, str]) -> FileForm:
    """Return what the fields say, all of which must be known."""
    Fields(dict(fields)).refuse_unknown(_KNOWN)
    purpose = fields.get("purpose", "")
    if purpose not in PURPOSES:
        listed = ", ".join(f"'{one}'" for one in PURPOSES)
        raise InvalidRequest(f"'purpose' must be one of {listed}.", param="purpose", code="invalid_value")
    return FileForm(purpose, read_expiry(_nested(fields), purpose))


def read_expiry(fields: Fields, purpose: str) -> int | None:
    """Return how long a file is to stay, or None where it stays until it is deleted (OpenAI,
    "expires_after").
    """
    expiry = fields.maybe_object(_WHOLE)
    if expiry is None:
        return BATCH_EXPIRES_SECONDS if purpose == "batch" else None
    expiry.refuse_unknown({"anchor", "seconds"})
    expiry.required("anchor")
    expiry.required("seconds")
    expiry.choice("anchor", ("created_at",), default=None)
    return expiry.integer("seconds", least=_MIN_SECONDS, most=_MAX_SECONDS, default=_MIN_SECONDS)


def _nested(fields: Mapping[str, str]) -> Fields:
    """Return the expiry as JSON has it, whichever way the form wrote it."""
    whole, parts = (
        fields.get(_WHOLE),
        {name: fields[key] for name, key in (("anchor", _ANCHOR), ("seconds", _SECONDS)) if key in fields},
    )
    if whole is not None and parts:
        raise InvalidRequest(
            f"'{_WHOLE}' is given twice: as JSON, and in brackets.",
            param=_WHOLE,
            code="mutually_exclusive_parameters",
        )
    if whole is None:
        seconds = parts.get("seconds", "")
        is_number = seconds.isascii() and seconds.isdigit() and len(seconds) <= 10
        return Fields({_WHOLE: parts | ({"seconds": int(seconds)} if is_number else {})} if parts else {})
    try:
        return Fields({_WHOLE: orjson.loads(whole)})
    except orjson.JSONDecodeError:
        message = (
            f"'{_WHOLE}' must be JSON with anchor and seconds, or be written as '{_ANCHOR}' and '{_SECONDS}'."
        )
        raise InvalidRequest(message, param=_WHOLE, code="invalid_value") from None
