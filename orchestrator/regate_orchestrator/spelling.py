"""Names that are not known, and what may have been meant: for settings and for fields of requests alike."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

_LONGEST: Final = 64


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is spelt most like this one; None where none is much like it."""
    near = difflib.get_close_matches(name[:_LONGEST], sorted(known), n=1)
    return near[0] if near else None
