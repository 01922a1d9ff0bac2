"""What is stored, as values. Each row carries owner, tenant and attributes (I8)."""

from __future__ import annotations

from regate_orchestrator.rows.api_keys import ApiKeyRow
from regate_orchestrator.rows.approvals import ApprovalRow
from regate_orchestrator.rows.documents import (
    NO_USAGE,
    Attachment,
    AttachmentStatus,
    DueBlob,
    ExpiredFile,
    ExpiredStore,
    FileBatch,
    FileRow,
    FileUsage,
    LiveFile,
    MadeChunks,
    OrphanedChunks,
    Sections,
    StoreChanges,
    StoreContents,
    StoreRow,
    Totals,
    UploadPart,
    UploadRow,
)
from regate_orchestrator.rows.idempotency_keys import KeyUse
from regate_orchestrator.rows.pages import Page, Rows, no_such_cursor
from regate_orchestrator.rows.prompts import PromptRow, PromptVersion
from regate_orchestrator.rows.responses import (
    MAX_HISTORY_ITEMS,
    UNFINISHED,
    ConversationRow,
    ItemWithParent,
    LoggedEvent,
    ResponseRow,
    StoredItem,
    too_many_items,
)

__all__ = [
    "MAX_HISTORY_ITEMS",
    "NO_USAGE",
    "UNFINISHED",
    "ApiKeyRow",
    "ApprovalRow",
    "Attachment",
    "AttachmentStatus",
    "ConversationRow",
    "DueBlob",
    "ExpiredFile",
    "ExpiredStore",
    "FileBatch",
    "FileRow",
    "FileUsage",
    "ItemWithParent",
    "KeyUse",
    "LiveFile",
    "LoggedEvent",
    "MadeChunks",
    "OrphanedChunks",
    "Page",
    "PromptRow",
    "PromptVersion",
    "ResponseRow",
    "Rows",
    "Sections",
    "StoreChanges",
    "StoreContents",
    "StoreRow",
    "StoredItem",
    "Totals",
    "UploadPart",
    "UploadRow",
    "no_such_cursor",
    "too_many_items",
]
