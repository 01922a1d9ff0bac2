"""Generations: each time a file's chunks are written to a vector engine, they are another generation, named
in the id of every chunk.

An attachment names the generation that counts. So whoever writes chunks can do so beside those that are found
now, another worker of the same file or one that was believed dead included; they are all found from one
moment on, or none is (ADR 0008). Every other generation is orphaned, recorded before its first chunk is
written, and is removed from the engine.
"""

from __future__ import annotations

import secrets
from typing import Final

from regate_orchestrator.values import FileId

_FILE: Final = "file-"


def mint_generation(tenant: str, file: FileId) -> str:
    """Return the name of a new generation. The tenant is part of it, so ids of different tenants'
    chunks can never meet.
    """
    return f"{tenant}/{file}/{secrets.token_hex(12)}"


def chunk_id(generation: str, index: int) -> str:
    """Return the id of a chunk of the generation."""
    return f"{generation}/{index:06d}"


def renamed(chunk: str, *, target: str) -> str:
    """Return the id that the chunk with this id has in another generation."""
    return f"{target}/{chunk.rpartition('/')[2]}"


def generation_of(chunk: str) -> str:
    """Return the generation that the chunk with this id is of."""
    return chunk.rpartition("/")[0]


def file_of(generation: str) -> FileId:
    """Return the file that the generation is of. The first version named its only generation after
    tenant and file alone.
    """
    *_, before, last = ("", *generation.split("/"))
    return FileId(last if last.startswith(_FILE) else before)
