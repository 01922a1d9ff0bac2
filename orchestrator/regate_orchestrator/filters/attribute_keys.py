"""Keys of attributes: those that clients may use, in attributes and filters, and those that look reserved."""

from __future__ import annotations

import unicodedata
from typing import Final

LONGEST: Final = 512
"""Characters of one attribute's text, and so of what it can be compared with."""

MAX_KEY: Final = 64
_PREFIX: Final = "regate."
RESERVED: Final = frozenset(
    {
        *(
            "tenant",
            "tenant_id",
            "owner",
            "owner_id",
            "acl",
            "visibility",
            "teams",
            "roles",
            "projects",
            "namespaces",
        ),
        *("level", "labels", "clearance", "legal_hold", "embargo_until"),
    }
)


def is_key(text: str) -> bool:
    """Return whether the text can be an attribute's key: any of 1 to 64 characters (OpenAI,
    "attributes") that every store can hold.
    """
    return 0 < len(text) <= MAX_KEY and is_storable(text)


def is_reserved(key: str) -> bool:
    """Return whether a reader could take the key for a policy field or a sharing request, however it
    is spelt.
    """
    seen = unicodedata.normalize("NFKC", key).strip().casefold()
    return seen in RESERVED or seen.startswith(("_", _PREFIX))


def is_storable(text: str) -> bool:
    """Return whether every store can hold the text as it is."""
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
