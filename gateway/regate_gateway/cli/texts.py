"""How commands show texts that others wrote."""

from __future__ import annotations


def plain(text: str) -> str:
    """Return the text without what a terminal would obey."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )
