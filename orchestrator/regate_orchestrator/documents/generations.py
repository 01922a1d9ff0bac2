"""Editions: each time a file's chunks are written to a vector engine, they are another edition, named in the id of every chunk.

An attachment names the edition that counts. So whoever writes chunks can do so beside those that are found now, another worker of the same
file or one that was believed dead included; they are all found from one moment on, or none is (ADR 0008). Every other edition is loose,
recorded before its first chunk is written, and is removed from the engine.
"""

from __future__ import annotations

import secrets
from typing import Final

from regate_orchestrator.values import FileId

_FILE: Final = "file-"


def mint_edition(tenant: str, file: FileId) -> str:
    """Return the name of a new edition. The tenant is part of it, so ids of different tenants' chunks can never meet."""
    return f"{tenant}/{file}/{secrets.token_hex(12)}"


def chunk_id(edition: str, index: int) -> str:
    """Return the id of a chunk of the edition."""
    return f"{edition}/{index:06d}"


def renamed(chunk: str, *, into: str) -> str:
    """Return the id that the chunk with this id has in another edition."""
    return f"{into}/{chunk.rpartition('/')[2]}"


def edition_of(chunk: str) -> str:
    """Return the edition that the chunk with this id is of."""
    return chunk.rpartition("/")[0]


def file_of(edition: str) -> FileId:
    """Return the file that the edition is of. The first version named its only edition after tenant and file alone."""
    *_, before, last = ("", *edition.split("/"))
    return FileId(last if last.startswith(_FILE) else before)
