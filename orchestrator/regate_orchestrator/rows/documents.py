"""Rows of files, uploads, vector stores and attachments.

A *stamp* is a mapping that conforms to the row's schema in `rego/schemas/`; it always holds `tenant` and
`owner`, which are write-once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from regate_orchestrator.filters.expression import Scalar
from regate_orchestrator.values import BatchId, FileId, JsonObject, PartId, StoreId, UploadId

AttachmentStatus: TypeAlias = Literal["in_progress", "completed", "failed", "cancelled"]


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
class StoreContents:
    """What a vector store is known to hold, of all tenants, and in which engine: how many chunks each
    generation has that counts, and how many files are in progress.
    """

    engine: str
    dimensions: int
    generations: Mapping[str, int]
    in_progress: int


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
class Sections:
    """The parts of a document of which each is a chunk: what stands below a heading, or on a page. One that
    is longer than `max_tokens` is split further.
    """

    kind: Literal["heading", "page"]
    max_tokens: int


@dataclass(frozen=True, slots=True)
class MadeChunks:
    """Complete chunks of a file in a store, and their recipe (`documents/generations.py`)."""

    generation: str
    chunks: int
    usage_bytes: int
    recipe: str


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
    sections: Sections | None = None
    """Where each of these is wanted as a chunk. The other sizes are for a file that has none of them."""
    made: MadeChunks | None = None
    """Its chunks when it is completed. While it is in progress those that the file had in the store before it
    was attached again, as long as they are kept. None for chunks of an earlier version of the gateway.
    """


@dataclass(frozen=True, slots=True)
class LiveFile:
    """What is true of an attached file now: the stamp its chunks carry, the generation of them that
    counts, and the name it is cited by.
    """

    filename: str
    stamp: JsonObject
    attributes: Mapping[str, Scalar]
    generation: str


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
