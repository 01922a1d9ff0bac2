"""What is stored: files, stores, attachments, prompts, responses, conversations, their items. Each row
carries owner, tenant, attributes (I8).

A *stamp* is a mapping that conforms to the row's schema in `rego/schemas/`; it always holds `tenant` and
`owner`, which are write-once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, cast

from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.filters.expression import Scalar
from regate_orchestrator.lineage import NOTHING_READ, Lineage, Source
from regate_orchestrator.values import (
    BatchId,
    ConversationId,
    FileId,
    Json,
    JsonObject,
    PartId,
    PromptId,
    ResponseId,
    StoreId,
    UploadId,
)

AttachmentStatus: TypeAlias = Literal["in_progress", "completed", "failed", "cancelled"]

UNFINISHED: Final = ("queued", "in_progress")
"""The statuses of a response that is still being made."""
MAX_HISTORY_ITEMS: Final = 10_000
"""How many items a conversation, or a chain of responses, can have. All of them are decided again in
each turn.
"""


def too_many_items(*, param: str) -> InvalidRequest:
    """Return the refusal of what is, or would make, a conversation longer than any can be."""
    message = (
        f"With these items the conversation would have more than the {MAX_HISTORY_ITEMS} that one can have. "
        "Compact it with POST /v1/responses/compact and go on from the result, or begin a new one."
    )
    return InvalidRequest(message, param=param, code="conversation_too_long")


@dataclass(frozen=True, slots=True)
class FileRow:
    """An uploaded file. Its bytes are in the blob store under the same id. Expired, it is absent."""

    id: FileId
    filename: str
    bytes: int
    purpose: str
    created_at: int
    stamp: JsonObject
    expires_at: int | None = None


@dataclass(frozen=True, slots=True)
class UploadRow:
    """A file that comes in parts: what was said of it, and what became of it. It is its maker's alone,
    and can be added to until it expires.
    """

    id: UploadId
    tenant: str
    owner: str
    filename: str
    purpose: str
    bytes: int
    created_at: int
    expires_at: int
    expires_in_s: int | None
    """How long the file is to stay, once it is one."""
    status: Literal["pending", "completed", "cancelled"] = "pending"


@dataclass(frozen=True, slots=True)
class UploadPart:
    """A part of an upload. Its bytes are in the blob store, under an id that is nobody's file."""

    id: PartId
    upload: UploadId
    blob: FileId
    bytes: int
    created_at: int


@dataclass(frozen=True, slots=True)
class FileUsage:
    """How many files one owner has, and how many bytes in them; uploads under way count as well."""

    files: int
    bytes: int


NO_USAGE: Final = FileUsage(0, 0)


@dataclass(frozen=True, slots=True)
class ExpiredFile:
    """A file that is absent for everybody and still to be collected, and the vector stores that hold
    chunks of it.
    """

    id: FileId
    tenant: str
    expired_at: int
    stores: tuple[StoreId, ...]


@dataclass(frozen=True, slots=True)
class DueBlob:
    """Bytes that have no file, and since when they may be removed."""

    file_id: FileId
    due_at: int


@dataclass(frozen=True, slots=True)
class StoreRow:
    """A vector store. `embedder` names the model its vectors were made with, `engine` where they are; no
    other is ever used for it.

    `last_active_at` and `expires_at` are those of the tenant that it was looked up for, which in a shared
    store is one of many.
    """

    id: StoreId
    name: str
    created_at: int
    last_active_at: int
    metadata: Mapping[str, str]
    stamp: JsonObject
    embedder: str
    dimensions: int
    engine: str
    description: str | None = None
    expires_after_days: int | None = None
    expires_at: int | None = None
    """None when it does not expire; and for a tenant that never used it, since there is nothing of
    that tenant's to expire.
    """

    def has_expired(self, now: float) -> bool:
        """Return whether nothing may be searched in it or added to it any more, on behalf of this tenant."""
        return self.expires_at is not None and now >= self.expires_at


@dataclass(frozen=True, slots=True)
class ExpiredStore:
    """A vector store that has expired for a tenant, and what the tenant has there was not let go of since."""

    store_id: StoreId
    tenant: str


@dataclass(frozen=True, slots=True)
class StoreChanges:
    """What an update of a vector store changes. What is None stays as it is; so it never undoes what
    another update changed meanwhile.
    """

    name: str | None = None
    metadata: Mapping[str, str] | None = None
    stamp: JsonObject | None = None
    """Of the same tenant and owner, which are write-once."""
    expires_after_days: int | Literal["never"] | None = None


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file in a vector store. All its chunks carry `stamp` (policy fields) and `attributes` (the client's,
    without `regate.` keys).

    `requested` is what the client sent, echoed as sent. Only a `completed` attachment is live: the chunks of
    its generation may be found.
    """

    store_id: StoreId
    file_id: FileId
    created_at: int
    status: AttachmentStatus
    stamp: JsonObject
    requested: Mapping[str, Scalar]
    attributes: Mapping[str, Scalar]
    max_chunk_tokens: int
    overlap_tokens: int
    policy_revision: str
    principal: JsonObject
    usage_bytes: int = 0
    chunks: int = 0
    error_code: str | None = None
    error_message: str | None = None
    generation: str = ""
    """The one generation of its chunks that counts (`documents/generations.py`); empty before a worker
    has begun.
    """
    attempts: int = 0
    """How often a worker has begun."""
    batch_id: BatchId | None = None


@dataclass(frozen=True, slots=True)
class FileBatch:
    """Files that were attached with one request. Which they are, each attachment says; the batch
    belongs to the tenant that sent it.
    """

    id: BatchId
    store_id: StoreId
    created_at: int
    tenant: str
    owner: str


@dataclass(frozen=True, slots=True)
class OrphanedChunks:
    """Chunks in a vector engine that nothing counts: a generation of a file's. With an empty generation all
    of the file's; with no file, all of a store.

    The last is the place of a store that is gone; chunks of a whole file were left by an earlier version,
    which knew no generations.
    """

    store_id: StoreId
    file_id: FileId
    generation: str


@dataclass(frozen=True, slots=True)
class Totals:
    """What a principal's tenant has in a store, by attachment status, and the bytes its completed
    chunks use.
    """

    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    usage_bytes: int = 0

    @property
    def files(self) -> int:
        """Return how many files there are, whatever became of them."""
        return self.in_progress + self.completed + self.failed + self.cancelled


@dataclass(frozen=True, slots=True)
class PromptRow:
    """A prompt. Its templates are its versions, numbered from 1 without gaps up to `latest_version`;
    none is ever changed or taken away.
    """

    id: PromptId
    name: str
    created_at: int
    metadata: Mapping[str, str]
    stamp: JsonObject
    default_version: int = 1
    """The version that a request gets which names none."""
    latest_version: int = 1


@dataclass(frozen=True, slots=True)
class PromptVersion:
    """One template of a prompt, in the API's shape, and the names of the variables in it
    (`prompt_templates.py`).
    """

    prompt_id: PromptId
    version: int
    created_at: int
    created_by: str
    template: JsonObject
    variables: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoredItem:
    """One item of a response or conversation, with the lineage of all that the model had read when it
    was made (empty for what the client sent).
    """

    id: str
    body: JsonObject
    direction: Literal["input", "output"]
    lineage: Lineage = NOTHING_READ
    results: tuple[JsonObject, ...] = ()
    """Of a `file_search_call`: what it found, text included, one mapping a chunk with `chunk_id`;
    leaves again only through the gate (I9).
    """


@dataclass(frozen=True, slots=True)
class ResponseRow:
    """A response: `body` is the Response object without its `output`, which is rebuilt from the
    output items.
    """

    id: ResponseId
    tenant: str
    owner: str
    created_at: int
    status: str
    previous_response_id: ResponseId | None
    model: str
    policy_revision: str
    body: JsonObject
    items: tuple[StoredItem, ...] = field(default=())
    conversation_id: ConversationId | None = None
    """The conversation that its items become part of when it ends well; it holds that conversation's
    lock until then.
    """
    background: bool = False

    def view(self) -> dict[str, Json]:
        """Return the row as `regate.history` sees it (`rego/schemas/item.json`)."""
        return _item_view(self, "response")


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event of a background response as its log keeps it, with the sources that the model had read
    since the event before.
    """

    event: JsonObject
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True)
class ConversationRow:
    """A conversation. Its items are kept beside it, in the order in which they were appended."""

    id: ConversationId
    tenant: str
    owner: str
    created_at: int
    metadata: Mapping[str, str]
    policy_revision: str

    def view(self) -> dict[str, Json]:
        """Return the row as `regate.history` sees it (`rego/schemas/item.json`)."""
        return _item_view(self, "conversation")


def _item_view(row: ResponseRow | ConversationRow, kind: str) -> dict[str, Json]:
    return {
        "id": row.id,
        "kind": kind,
        "tenant": row.tenant,
        "owner": row.owner,
        "labels": [],
        "created": row.created_at,
        "policy_revision": row.policy_revision,
    }


@dataclass(frozen=True, slots=True)
class ItemWithParent:
    """A stored item, with the policy view of the row that holds it (a response's or a conversation's
    `view()`).
    """

    holder: JsonObject
    item: StoredItem

    def view(self) -> dict[str, Json]:
        """Return the item as `regate.history` sees it: its holder's owner, and the labels of
        everything it was made from.
        """
        return {
            **self.holder,
            "id": self.item.id,
            "kind": cast("str", self.item.body["type"]),
            "labels": sorted(self.item.lineage.labels),
        }


@dataclass(frozen=True, slots=True)
class KeyUse:
    """What an idempotency key is used for: the request, by its fingerprint, and the id of what it
    created, None while it is running.
    """

    fingerprint: str
    created: str | None


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is wanted. `after` and `before` are ids; order is by creation time, then id."""

    limit: int = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None
    before: str | None = None

    @property
    def cursors(self) -> dict[str, str]:
        """Return the ids of the rows between which the page lies, by their parameters."""
        return {
            name: cursor
            for name, cursor in (("after", self.after), ("before", self.before))
            if cursor is not None
        }

    @property
    def is_backwards(self) -> bool:
        """Return whether the page ends at a row: it holds the rows nearest before that one, in the
        list's order all the same.
        """
        return self.before is not None and self.after is None


def no_such_cursor(param: str) -> InvalidRequest:
    """Return the one error for a cursor that is no row of the list: absent, in another list, and not
    to be seen by the caller alike (I7).
    """
    return InvalidRequest(f"'{param}' must be the id of an object in this list.", param=param)
