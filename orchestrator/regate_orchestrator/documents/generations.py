"""Generations: each time a file's chunks are written to a vector engine, they are another generation, named
in the id of every chunk.

An attachment names the generation that counts. So whoever writes chunks can do so beside those that are found
now, another worker of the same file or one that was believed dead included; they are all found from one
moment on, or none is (ADR 0008). Every other generation is orphaned, recorded before its first chunk is
written, and is removed from the engine.

A generation is made by a recipe: everything that decides which chunks are made of a file's bytes, but their
stamp. Generations of one file in one store and of one recipe have the same texts, contexts and vectors,
because the bytes of a file never change. So a file that is attached again is read again only where the recipe
is another one. The stamp is no part of it: it is decided on every attachment.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from typing import Final

from regate_orchestrator.rows import Attachment
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


def recipe_of(
    attachment: Attachment, *, filename: str, embedder: str, reading: str, contexts: str | None
) -> str:
    """Return the digest of the recipe. `reading` names all that decides what is read of a file
    (`Extractor.version`), `contexts` all that decides what is written around chunks, or None.
    """
    sections = attachment.sections
    parts = [
        filename,
        attachment.max_chunk_tokens,
        attachment.overlap_tokens,
        None if sections is None else [sections.kind, sections.max_tokens],
        embedder,
        reading,
        contexts,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
