"""What is remembered of an export: who the writer of this log is, and how far each destination has it."""

from __future__ import annotations

import json
import os
import re
import secrets
from pathlib import Path
from typing import Final

_WRITER: Final = "writer"
_ID: Final = re.compile(r"[0-9a-f]{32}")


def writer_of(directory: Path, *, is_new: bool) -> str:
    """Return the id of this log among all that are exported to one place; a log that begins anew gets
    another. Raises `OSError`.
    """
    path = directory / _WRITER
    if not is_new and path.exists() and _ID.fullmatch(found := path.read_text("ascii", "replace").strip()):
        return found
    identifier = secrets.token_hex(16)
    _replace(path, identifier + "\n")
    return identifier


class Cursor:
    """How far one destination has the records of one writer, kept in a file beside the log."""

    def __init__(self, directory: Path, name: str, writer: str) -> None:
        self._path = directory / f"export-{name}.json"
        self._writer = writer

    def load(self) -> int:
        """Return the number of the last record that was exported; 0 when none was, or of another writer.
        Raises `OSError`.
        """
        try:
            found = json.loads(self._path.read_bytes())
        except (FileNotFoundError, ValueError):
            return 0
        if not isinstance(found, dict) or found.get("writer") != self._writer:
            return 0
        seq = found.get("seq")
        return seq if isinstance(seq, int) else 0

    def save(self, seq: int) -> None:
        """Keep the number; a crash leaves this one or the one before. Raises `OSError`."""
        _replace(self._path, json.dumps({"writer": self._writer, "seq": seq}) + "\n")


def _replace(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
    draft.replace(path)
