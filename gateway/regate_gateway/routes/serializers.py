"""Rows in the API's shapes. Stamps are never shown; attributes and metadata are echoed as the client
sent them.
"""

from __future__ import annotations

from collections.abc import Sequence

from regate_orchestrator.retrieval.admission import Hit, hit_attributes
from regate_orchestrator.rows import (
    Attachment,
    ConversationRow,
    FileBatch,
    FileRow,
    PromptRow,
    PromptVersion,
    StoreRow,
    Totals,
    UploadPart,
    UploadRow,
)
from regate_orchestrator.values import Json, JsonObject


def file_object(row: FileRow) -> JsonObject:
    """Return a File object."""
    return {
        "id": row.id,
        "object": "file",
        "bytes": row.bytes,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "filename": row.filename,
        "purpose": row.purpose,
        "status": "processed",
        "status_details": None,
    }


def upload_object(row: UploadRow, *, status: str, file: FileRow | None = None) -> JsonObject:
    """Return an Upload object; with its file, when it is completed."""
    return {
        "id": row.id,
        "object": "upload",
        "bytes": row.bytes,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "filename": row.filename,
        "purpose": row.purpose,
        "status": status,
        "file": None if file is None else file_object(file),
    }


def part_object(part: UploadPart) -> JsonObject:
    """Return an upload's Part object."""
    return {"id": part.id, "object": "upload.part", "created_at": part.created_at, "upload_id": part.upload}


def store_object(row: StoreRow, totals: Totals, *, now: float) -> JsonObject:
    """Return a vector store object as the caller's tenant sees it."""
    status = "expired" if row.has_expired(now) else "in_progress" if totals.in_progress else "completed"
    return {
        "id": row.id,
        "object": "vector_store",
        "created_at": row.created_at,
        "name": row.name,
        "usage_bytes": totals.usage_bytes,
        "description": row.description,
        "file_counts": _file_counts(totals),
        "status": status,
        "expires_after": None
        if row.expires_after_days is None
        else {"anchor": "last_active_at", "days": row.expires_after_days},
        "expires_at": row.expires_at,
        "last_active_at": row.last_active_at,
        "metadata": dict(row.metadata),
    }


def batch_object(batch: FileBatch, totals: Totals) -> JsonObject:
    """Return a batch of files. It is cancelled when one of its files is, and failed when all of them are."""
    if totals.in_progress:
        status = "in_progress"
    elif totals.cancelled:
        status = "cancelled"
    else:
        status = "failed" if totals.failed and totals.failed == totals.files else "completed"
    return {
        "id": batch.id,
        "object": "vector_store.files_batch",
        "created_at": batch.created_at,
        "vector_store_id": batch.store_id,
        "status": status,
        "file_counts": _file_counts(totals),
    }


def _file_counts(totals: Totals) -> JsonObject:
    return {
        "in_progress": totals.in_progress,
        "completed": totals.completed,
        "failed": totals.failed,
        "cancelled": totals.cancelled,
        "total": totals.files,
    }


def attachment_object(row: Attachment) -> JsonObject:
    """Return a vector store file object."""
    error = None if row.error_code is None else {"code": row.error_code, "message": row.error_message}
    return {
        "id": row.file_id,
        "object": "vector_store.file",
        "created_at": row.created_at,
        "vector_store_id": row.store_id,
        "usage_bytes": row.usage_bytes,
        "status": row.status,
        "last_error": error,
        "attributes": dict(row.requested),
        "chunking_strategy": _chunking_strategy(row),
    }


def _chunking_strategy(row: Attachment) -> JsonObject:
    if row.sections is not None:
        kind = row.sections.kind
        return {"type": kind, kind: {"max_chunk_size_tokens": row.sections.max_tokens}}
    sizes = {"max_chunk_size_tokens": row.max_chunk_tokens, "chunk_overlap_tokens": row.overlap_tokens}
    return {"type": "static", "static": sizes}


def conversation_object(row: ConversationRow) -> JsonObject:
    """Return a Conversation object."""
    return {
        "id": row.id,
        "object": "conversation",
        "created_at": row.created_at,
        "metadata": dict(row.metadata),
    }


def search_result(hit: Hit) -> JsonObject:
    """Return one hit of a vector store search."""
    return {
        "file_id": hit.candidate.file_id,
        "filename": hit.filename,
        "score": hit.candidate.score,
        "attributes": hit_attributes(hit),
        "content": [{"type": "text", "text": hit.candidate.text}],
    }


def prompt_object(row: PromptRow, version: PromptVersion | None = None) -> JsonObject:
    """Return a prompt, with the template of the given version: its default one."""
    template: dict[str, Json] = (
        {} if version is None else {"template": version.template, "variables": list(version.variables)}
    )
    return {
        "id": row.id,
        "object": "prompt",
        "created_at": row.created_at,
        "name": row.name,
        "default_version": str(row.default_version),
        "latest_version": str(row.latest_version),
        "metadata": dict(row.metadata),
        **template,
    }


def prompt_version_object(row: PromptVersion) -> JsonObject:
    """Return one version of a prompt."""
    return {
        "object": "prompt.version",
        "prompt_id": row.prompt_id,
        "version": str(row.version),
        "created_at": row.created_at,
        "template": row.template,
        "variables": list(row.variables),
    }


def list_object(data: Sequence[JsonObject], *, has_more: bool, cursor: str = "id") -> JsonObject:
    """Return a page of a list. `cursor` is the member by which the list goes on."""
    first: Json = data[0][cursor] if data else None
    last: Json = data[-1][cursor] if data else None
    return {"object": "list", "data": list(data), "first_id": first, "last_id": last, "has_more": has_more}
