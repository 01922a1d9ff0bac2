"""Rows to columns and back. What may be stored at all is decided here, once: only values that a filter can
compare exactly later.

Not the tables (`tables.py`), and not the views that policies see (`state/filters/row_filter.py` names those
fields).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, cast

import orjson
from sqlalchemy import Row

from regate_orchestrator.errors import InvalidRequest, StateUnavailable
from regate_orchestrator.lineage import Lineage
from regate_orchestrator.rows import (
    Attachment,
    ConversationRow,
    FileRow,
    MadeChunks,
    PromptRow,
    PromptVersion,
    ResponseRow,
    Sections,
    StoreChanges,
    StoredItem,
    StoreRow,
    UploadRow,
)
from regate_orchestrator.values import Json, JsonObject

SECONDS_A_DAY: Final = 86_400
_MAX_INTEGER: Final = 2**63 - 1
_IDENTIFIER: Final = re.compile(r"[!-~]{1,256}")

Columns = dict[str, object]
AnyRow = Row[
    Any
]  # the columns' types are the tables' business; each `*_row` function below names what it takes out


def is_identifier(value: str) -> bool:
    """Return whether a text can be the identifier of any row. What cannot is absent, and never reaches
    the database.
    """
    return _IDENTIFIER.fullmatch(value) is not None


def encode(value: object) -> str:
    """Return the JSON text of a value, in the one spelling that all stored documents have; raises
    `StateUnavailable` for what is not JSON.
    """
    try:
        return orjson.dumps(value, default=_plain).decode()
    except orjson.JSONEncodeError as error:
        raise StateUnavailable("a value to be stored is not JSON") from error


def stored_size(*values: object) -> int:
    """Return how many bytes the values take as they are stored."""
    return sum(len(encode(value).encode()) for value in values)


def item_size(item: StoredItem) -> int:
    """Return how many bytes an item takes."""
    return stored_size(item.body, list(item.results))


def decode(text: str | bytes) -> Json:
    """Return the value of a JSON text."""
    return cast("Json", orjson.loads(text))


def file_columns(row: FileRow) -> Columns:
    """Return the columns of a file; raises `InvalidRequest` for a name that cannot be stored."""
    return {
        **_owned(row.stamp),
        "id": row.id,
        "filename": _text(row.filename, param="file"),
        "bytes": row.bytes,
        "purpose": _text(row.purpose, param="purpose"),
        "created_at": row.created_at,
        "expires_at": row.expires_at,
    }


def file_row(row: AnyRow) -> FileRow:
    """Return the file that the columns describe."""
    return FileRow(row.id, row.filename, row.bytes, row.purpose, row.created_at, row.stamp, row.expires_at)


def upload_columns(row: UploadRow) -> Columns:
    """Return the columns of an upload; raises `InvalidRequest` for a name that cannot be stored."""
    texts = {
        "filename": _text(row.filename, param="filename"),
        "purpose": _text(row.purpose, param="purpose"),
    }
    return {name: getattr(row, name) for name in UploadRow.__slots__} | texts


def upload_row(row: AnyRow) -> UploadRow:
    """Return the upload that the columns describe."""
    return UploadRow(**{name: getattr(row, name) for name in UploadRow.__slots__})


def store_columns(row: StoreRow) -> Columns:
    """Return the columns of a vector store; raises `InvalidRequest` for a name that cannot be stored."""
    return {
        **_owned(row.stamp),
        "id": row.id,
        "shared": row.stamp.get("shared") is True,
        "name": _text(row.name, param="name"),
        "created_at": row.created_at,
        "client_metadata": dict(row.metadata),
        "embedder": row.embedder,
        "dimensions": row.dimensions,
        "engine": row.engine,
        "description": None if row.description is None else _text(row.description, param="description"),
        "expires_after_days": row.expires_after_days,
    }


def store_changes(changes: StoreChanges) -> Columns:
    """Return the columns that change; raises as `store_columns` does. Tenant and owner are write-once
    and never among them.
    """
    columns: Columns = {}
    if changes.name is not None:
        columns["name"] = _text(changes.name, param="name")
    if changes.metadata is not None:
        columns["client_metadata"] = dict(changes.metadata)
    if changes.stamp is not None:
        columns |= {"stamp": _owned(changes.stamp)["stamp"], "shared": changes.stamp.get("shared") is True}
    if changes.expires_after_days is not None:
        columns["expires_after_days"] = (
            None if changes.expires_after_days == "never" else changes.expires_after_days
        )
    return columns


def store_row(row: AnyRow) -> StoreRow:
    """Return the vector store that the columns describe; `last_active_at` and `used_at` must have been
    selected for one tenant.
    """
    return StoreRow(
        id=row.id,
        name=row.name,
        created_at=row.created_at,
        last_active_at=row.last_active_at,
        metadata=row.client_metadata,
        stamp=row.stamp,
        embedder=row.embedder,
        dimensions=row.dimensions,
        engine=row.engine or "",
        description=row.description,
        expires_after_days=row.expires_after_days,
        expires_at=_expiry(row.used_at, row.expires_after_days),
    )


def _expiry(used_at: int | None, days: int | None) -> int | None:
    return None if used_at is None or days is None else used_at + days * SECONDS_A_DAY


def prompt_columns(row: PromptRow) -> Columns:
    """Return the columns of a prompt; raises `InvalidRequest` for a name that cannot be stored."""
    return {
        **_owned(row.stamp),
        "id": row.id,
        "name": _text(row.name, param="name"),
        "created_at": row.created_at,
        "client_metadata": dict(row.metadata),
        "default_version": row.default_version,
        "latest_version": row.latest_version,
    }


def prompt_row(row: AnyRow) -> PromptRow:
    """Return the prompt that the columns describe."""
    return PromptRow(
        row.id,
        row.name,
        row.created_at,
        row.client_metadata,
        row.stamp,
        row.default_version,
        row.latest_version,
    )


def prompt_version_columns(row: PromptVersion) -> Columns:
    """Return the columns of a prompt's version."""
    return {
        "prompt_id": row.prompt_id,
        "version": row.version,
        "created_at": row.created_at,
        "created_by": row.created_by,
        "template": row.template,
        "variables": list(row.variables),
        "bytes": stored_size(row.template),
    }


def prompt_version_row(row: AnyRow) -> PromptVersion:
    """Return the prompt's version that the columns describe."""
    return PromptVersion(
        row.prompt_id, row.version, row.created_at, row.created_by, row.template, tuple(row.variables)
    )


def attachment_columns(row: Attachment) -> Columns:
    """Return the columns of an attachment."""
    return {
        **_owned(row.stamp),
        "store_id": row.store_id,
        "file_id": row.file_id,
        "created_at": row.created_at,
        "status": row.status,
        "requested": dict(row.requested),
        "attributes": dict(row.attributes),
        "max_chunk_tokens": row.max_chunk_tokens,
        "overlap_tokens": row.overlap_tokens,
        "policy_revision": row.policy_revision,
        "principal": row.principal,
        "usage_bytes": row.usage_bytes,
        "chunks": row.chunks,
        "error_code": row.error_code,
        "error_message": row.error_message,
        "generation": row.generation,
        "attempts": row.attempts,
        "batch_id": row.batch_id,
        "section_kind": row.sections and row.sections.kind,
        "section_tokens": row.sections and row.sections.max_tokens,
        "made": row.made and asdict(row.made),
    }


def attachment_row(row: AnyRow) -> Attachment:
    """Return the attachment that the columns describe."""
    return Attachment(
        store_id=row.store_id,
        file_id=row.file_id,
        created_at=row.created_at,
        status=row.status,
        stamp=row.stamp,
        requested=row.requested,
        attributes=row.attributes,
        max_chunk_tokens=row.max_chunk_tokens,
        overlap_tokens=row.overlap_tokens,
        policy_revision=row.policy_revision,
        principal=row.principal,
        usage_bytes=row.usage_bytes,
        chunks=row.chunks,
        error_code=row.error_code,
        error_message=row.error_message,
        generation=row.generation,
        attempts=row.attempts,
        batch_id=row.batch_id,
        sections=row.section_kind and Sections(row.section_kind, row.section_tokens),
        made=row.made and MadeChunks(**row.made),
    )


def response_columns(row: ResponseRow) -> Columns:
    """Return the columns of a response that a later state of it may change: all but its id, tenant
    and owner.
    """
    return {
        "created_at": row.created_at,
        "status": row.status,
        "previous_response_id": row.previous_response_id,
        "model": row.model,
        "policy_revision": row.policy_revision,
        "body": row.body,
        "conversation_id": row.conversation_id,
        "background": row.background,
        "bytes": stored_size(row.body) + sum(item_size(item) for item in row.items),
    }


def response_row(row: AnyRow, items: Sequence[StoredItem] = ()) -> ResponseRow:
    """Return the response that the columns describe, with these items."""
    return ResponseRow(
        id=row.id,
        tenant=row.tenant,
        owner=row.owner,
        created_at=row.created_at,
        status=row.status,
        previous_response_id=row.previous_response_id,
        model=row.model,
        policy_revision=row.policy_revision,
        body=row.body,
        items=tuple(items),
        conversation_id=row.conversation_id,
        background=row.background,
    )


def conversation_columns(row: ConversationRow) -> Columns:
    """Return the columns of a conversation."""
    return {
        "id": row.id,
        "tenant": row.tenant,
        "owner": row.owner,
        "created_at": row.created_at,
        "client_metadata": dict(row.metadata),
        "policy_revision": row.policy_revision,
    }


def conversation_row(row: AnyRow) -> ConversationRow:
    """Return the conversation that the columns describe."""
    return ConversationRow(
        row.id, row.tenant, row.owner, row.created_at, row.client_metadata, row.policy_revision
    )


def item_columns(position: int, item: StoredItem) -> Columns:
    """Return the columns of an item at this position; of which response or conversation, the caller adds."""
    return {
        "position": position,
        "id": item.id,
        "direction": item.direction,
        "body": item.body,
        "results": list(item.results),
        "lineage_id": item.lineage.id if item.lineage.size else "",
    }


def item_row(row: AnyRow, lineage: Lineage) -> StoredItem:
    """Return the item that the columns describe, and that rests on this (`state/responses/lineages.py`)."""
    return StoredItem(row.id, row.body, row.direction, lineage, tuple(row.results))


def _owned(stamp: JsonObject) -> Columns:
    """Return the policy columns and the stamp. Raises `StateUnavailable` for a stamp that no filter
    could judge exactly (a policy's fault).
    """
    tenant, owner = stamp.get("tenant"), stamp.get("owner")
    if not (isinstance(tenant, str) and tenant and isinstance(owner, str) and owner):
        raise StateUnavailable("the stamp names no tenant or no owner")
    for name, value in stamp.items():
        if not (_comparable(name) and _comparable(value)):
            raise StateUnavailable(f"the stamp's field {name!r} has a value that cannot be compared exactly")
    return {"tenant": tenant, "owner": owner, "stamp": stamp}


def _comparable(value: Json) -> bool:
    """Return whether every database compares the value as Rego does: no NUL, no lone surrogate, no
    NaN, no integer past 64 bits.
    """
    match value:
        case None | bool():
            return True
        case str():
            return is_text(value)
        case int():
            return abs(value) <= _MAX_INTEGER
        case float():
            return math.isfinite(value)
        case Mapping():
            return all(_comparable(name) and _comparable(one) for name, one in value.items())
        case _:
            return all(_comparable(one) for one in value)


def _text(value: str, *, param: str) -> str:
    if not is_text(value):
        raise InvalidRequest(f"'{param}' must not hold NUL characters or broken Unicode.", param=param)
    return value


def is_text(value: str) -> bool:
    """Return whether every database can hold the text, and compare with it: no NUL, no lone surrogate."""
    return "\x00" not in value and not any("\ud800" <= character <= "\udfff" for character in value)


def _plain(value: object) -> object:
    match value:
        case Mapping():
            return dict(value)
        case Sequence() if not isinstance(value, bytes | bytearray | memoryview):
            return list(value)
        case _:
            raise TypeError(f"{type(value).__name__} is not JSON")
