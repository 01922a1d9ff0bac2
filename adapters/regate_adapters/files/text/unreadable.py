"""What a reader says of a file whose text cannot be had. A part of `formats.py`."""

from __future__ import annotations

from typing import Final

MAX_CHARACTERS: Final = 10_000_000


class Unreadable(Exception):
    """The file has no text that can be had. `code` is `unsupported_file` or `invalid_file`; the
    message is for the file's owner.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def damaged() -> Unreadable:
    """Return the refusal of a file that is not what its name says."""
    return Unreadable("invalid_file", "The file is not what its name says, or it is damaged.")


def protected() -> Unreadable:
    """Return the refusal of a file that a password protects."""
    return Unreadable("invalid_file", "The file is protected by a password: save it without one.")
