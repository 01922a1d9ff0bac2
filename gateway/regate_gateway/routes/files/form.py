"""What the form of `POST /v1/files` says beside the file: what it is for, and when it expires. Nested
fields are written in brackets, or as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, get_args

import orjson

from regate_gateway.http.misfits import require_known
from regate_gateway.routes.files.models import FileExpiry, Purpose, expires_in
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.values import Json

PURPOSES: Final = get_args(Purpose)

_WHOLE: Final = "expires_after"
_ANCHOR: Final = "expires_after[anchor]"
_SECONDS: Final = "expires_after[seconds]"
_KNOWN: Final = ("purpose", _WHOLE, _ANCHOR, _SECONDS)


@dataclass(frozen=True, slots=True)
class FileForm:
    """The fields, checked. `expires_in_s` is None for a file that stays until it is deleted."""

    purpose: str
    expires_in_s: int | None


def read_file_form(fields: Mapping[str, str]) -> FileForm:
    """Return what the fields say, all of which must be known."""
    require_known(fields, _KNOWN)
    purpose = fields.get("purpose", "")
    if purpose not in PURPOSES:
        listed = ", ".join(f"'{one}'" for one in PURPOSES)
        raise InvalidRequest(f"'purpose' must be one of {listed}.", param="purpose", code="invalid_value")
    whole = _whole(fields)
    expiry = None if whole is None else FileExpiry.read(whole, path=_WHOLE)
    return FileForm(purpose, expires_in(expiry, purpose))


def _whole(fields: Mapping[str, str]) -> Json:
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
        return {**parts, **({"seconds": int(seconds)} if is_number else {})} if parts else None
    try:
        found: Json = orjson.loads(whole)
    except orjson.JSONDecodeError:
        message = (
            f"'{_WHOLE}' must be JSON with anchor and seconds, or be written as '{_ANCHOR}' and '{_SECONDS}'."
        )
        raise InvalidRequest(message, param=_WHOLE, code="invalid_value") from None
    return found
