"""Marks within the text of a file that say where its pages begin and which of its lines are headings.

Readers set them, and `formats.py` takes them out again unless they are wanted. They are control characters,
which no text that was read keeps, so they are in nobody's way.
"""

from __future__ import annotations

from typing import Final

PAGE: Final = "\x0e"
"""Stands before the text of a page, or of a slide."""
HEADING_END: Final = "\x0f"
"""Stands after a heading."""
LEVELS: Final = "\x10\x11\x12\x13\x14\x15\x16\x17\x18"
"""Stand before a heading: one for each level, the highest first."""
MARKS: Final = PAGE + HEADING_END + LEVELS


def heading_mark(level: int) -> str:
    """Return what stands before a heading of the level, which is 1 for the highest."""
    return LEVELS[min(level, len(LEVELS)) - 1]
