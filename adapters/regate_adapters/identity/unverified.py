"""What a token says of itself, unverified: good for nothing but finding who may verify it."""

from __future__ import annotations

import base64
import binascii
from typing import Final

import orjson

API_KEY_PREFIX: Final = "rgk_"
"""What every API key begins with, for the gateway and for scanners of leaked secrets alike."""

_MAX_CHARACTERS: Final = 16 * 1024


def issuer_in(token: str) -> str | None:
    """Return the `iss` that a compact JWT names, or None for whatever is none. Nothing of it is verified: the
    issuer's provider does that, this member included.
    """
    payload = payload_of(token)
    issuer = None if payload is None else payload.get("iss")
    return issuer if isinstance(issuer, str) else None


def payload_of(token: str) -> dict[str, object] | None:
    """Return the unverified payload of a compact JWT, or None for whatever is none."""
    parts = token.split(".", 3) if len(token) <= _MAX_CHARACTERS else []
    if len(parts) != 3:
        return None
    try:
        raw = base64.b64decode(parts[1] + "=" * (-len(parts[1]) % 4), altchars=b"-_", validate=True)
        payload = orjson.loads(raw)
    except (binascii.Error, ValueError):
        return None
    return payload if isinstance(payload, dict) else None
