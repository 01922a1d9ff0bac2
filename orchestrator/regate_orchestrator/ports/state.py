"""The state store: rows of files, vector stores, attachments, prompts, responses, conversations and
idempotency keys.

One repository in parts, which are implemented part by part as well (`adapters/state/`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from regate_orchestrator.filters.expression import FilterPlan
from regate_orchestrator.lineage import Source
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import (
    Attachment,
    ConversationRow,
    FileBatch,
    FileRow,
    ItemWithParent,
    KeyUse,
    LiveFile,
    LoggedEvent,
    OrphanedChunks,
    Page,
    PromptRow,
    PromptVersion,
    ResponseRow,
    Rows,
    StoreChanges,
    StoredItem,
    StoreRow,
    Totals,
)
from regate_orchestrator.values import (
    BatchId,
    ConversationId,
    FileId,
    JsonObject,
    PromptId,
    ResponseId,
    StoreId,
)


class FileState(Protocol):
    """The part of the state store that keeps files."""

    async def add_file(self, row: FileRow) -> None:
        """Store a new file row. From when it expires on, it is absent everywhere, attachments included."""
        ...

    async def file(self, principal: Principal, file: FileId) -> FileRow | None:
        """Return the file's row."""
        ...

    async def files_named(self, principal: Principal, names: Sequence[FileId]) -> Mapping[FileId, FileRow]:
        """Return the rows of these files, of those that are there."""
        ...

    async def files(
        self, principal: Principal, plan: FilterPlan, page: Page, *, purpose: str | None
    ) -> Rows[FileRow]:
        """Return a page of the file rows that the plan permits."""
        ...

    async def delete_file(self, principal: Principal, file: FileId) -> list[StoreId] | None:
        """Delete the file's row and all its attachments; return the stores it was attached to, or None
        when it was absent or invisible.
        """
        ...


class StoreState(Protocol):
    """The part of the state store that keeps vector stores."""

    async def add_store(self, row: StoreRow) -> None:
        """Store a new vector store row."""
        ...

    async def store(self, principal: Principal, store: StoreId) -> StoreRow | None:
        """Return the vector store's row."""
        ...

    async def engine_of(self, store: StoreId) -> str | None:
        """Return the vector engine that the store is in, of whatever tenant; None when there is no
        such row. For `VectorEngines`, nothing else.
        """
        ...

    async def place_stores(self, *, engine: str) -> int:
        """Record this engine for all stores of which none is recorded, and return how many: those of
        an earlier version. At start only.
        """
        ...

    async def stores(self, principal: Principal, plan: FilterPlan, page: Page) -> Rows[StoreRow]:
        """Return a page of the vector store rows that the plan permits."""
        ...

    async def touch_store(self, principal: Principal, store: StoreId, *, at: int) -> None:
        """Record that this tenant used the store: `last_active_at` is kept per tenant, so that no tenant sees
        another's activity.

        Must not bring a store back that has expired for the tenant.
        """
        ...

    async def update_store(self, principal: Principal, store: StoreId, changes: StoreChanges) -> bool:
        """Change the store; return False when the principal's tenant made no such store. Tenant and
        owner must never change.
        """
        ...

    async def delete_store(self, principal: Principal, store: StoreId) -> bool:
        """Delete the store's row and all its attachments. Its place in the vector engine is orphaned."""
        ...


class AttachmentState(Protocol):
    """The part of the state store that keeps files in vector stores, and the batches that they come in."""

    async def put_attachments(self, rows: Sequence[Attachment], *, batch: FileBatch | None = None) -> None:
        """Store the attachments, which are all of one tenant and store, and the batch they come in; all or
        none, in one transaction.

        An earlier attachment of the same file in the same store is replaced whole, and its chunks are
        orphaned. Raises `NotFound` when the store or a file has gone, or expired, meanwhile.
        """
        ...

    async def amend_attachment(self, row: Attachment, *, expected: Attachment) -> bool:
        """Replace the attachment by this row; return False, and change nothing, when its status or generation
        is not as it was `since`.

        In one transaction with it the generation that `since` named is orphaned, and the one that the row
        names, which must have been reserved, counts; False as well when that was orphaned for too long.
        """
        ...

    async def reserve(self, chunks: OrphanedChunks, *, ttl_s: int) -> None:
        """Write down that this is about to be stored: after that time it is orphaned, unless by then
        an attachment, or a store, counts it.
        """
        ...

    async def forget_orphaned_chunks(self, chunks: OrphanedChunks) -> None:
        """Forget what was orphaned, since it is gone from the vector engine."""
        ...

    async def in_progress_among(
        self, principal: Principal, store: StoreId, files: Sequence[FileId]
    ) -> frozenset[FileId]:
        """Return those of these files whose attachment to the store is in progress."""
        ...

    async def attachment(self, principal: Principal, store: StoreId, file: FileId) -> Attachment | None:
        """Return the attachment, looked up by the pair and within the principal's tenant."""
        ...

    async def stores_holding(self, principal: Principal, file: FileId) -> list[StoreId]:
        """Return the vector stores in which the principal's tenant has this file, whatever came of its
        ingestion.
        """
        ...

    async def attachments(
        self,
        principal: Principal,
        store: StoreId,
        plan: FilterPlan,
        page: Page,
        *,
        status: str | None,
        batch: BatchId | None = None,
    ) -> Rows[Attachment]:
        """Return a page of the store's attachments of the principal's tenant that the plan permits (the chunk
        rule decides on their stamp).

        With a batch, only of those that came in it.
        """
        ...

    async def delete_attachment(
        self, principal: Principal, store: StoreId, file: FileId
    ) -> Attachment | None:
        """Delete the attachment and return it as it was. From the moment this returns, no search may
        return its chunks, which are orphaned.
        """
        ...

    async def totals(self, principal: Principal, stores: Sequence[StoreId]) -> Mapping[StoreId, Totals]:
        """Return, for each store, what the principal's tenant has in it."""
        ...

    async def live(
        self, principal: Principal, pairs: Sequence[tuple[StoreId, FileId]]
    ) -> Mapping[tuple[StoreId, FileId], LiveFile]:
        """Return the completed attachments among these pairs, with their present stamp and generation and the
        file's name. Retrieval joins on it.

        Nothing of a store that has expired for the principal's tenant may be among them.
        """
        ...

    async def file_batch(self, principal: Principal, store: StoreId, batch: BatchId) -> FileBatch | None:
        """Return the batch, looked up by the pair and within the principal's tenant."""
        ...

    async def batch_totals(self, batch: FileBatch) -> Totals:
        """Return what has become of the batch's files, as far as they are still attached by it."""
        ...

    async def batch_stamps(self, batch: FileBatch) -> list[JsonObject]:
        """Return the different stamps of the batch's files that are in progress."""
        ...

    async def cancel_batch(self, batch: FileBatch) -> int:
        """Cancel the batch's files that are in progress; return how many. No worker may complete one
        of them after this returns.
        """
        ...


class PromptState(Protocol):
    """The part of the state store that keeps prompts."""

    async def add_prompt(self, row: PromptRow, first: PromptVersion) -> None:
        """Store a new prompt with its first version."""
        ...

    async def prompt(self, principal: Principal, prompt: PromptId) -> PromptRow | None:
        """Return the prompt's row."""
        ...

    async def prompts(self, principal: Principal, plan: FilterPlan, page: Page) -> Rows[PromptRow]:
        """Return a page of the prompt rows that the plan permits."""
        ...

    async def update_prompt(
        self, principal: Principal, prompt: PromptId, *, name: str | None, default_version: int | None
    ) -> PromptRow | None:
        """Change what is given and return the row as it is then; None when absent or invisible. Raises
        `InvalidRequest` for a version it lacks.
        """
        ...

    async def delete_prompt(self, principal: Principal, prompt: PromptId) -> bool:
        """Delete the prompt's row and all its versions."""
        ...

    async def add_prompt_version(
        self,
        principal: Principal,
        prompt: PromptId,
        *,
        template: JsonObject,
        variables: Sequence[str],
        created_at: int,
    ) -> PromptVersion | None:
        """Store the principal's template as the next version and return it; None when the prompt is absent or
        invisible.

        Of versions that are added at once each must get a number of its own. The default version stays what
        it is.
        """
        ...

    async def prompt_version(
        self, principal: Principal, prompt: PromptId, version: int
    ) -> PromptVersion | None:
        """Return one version of the prompt; None when either is absent or invisible."""
        ...

    async def prompt_versions(
        self, principal: Principal, prompt: PromptId, page: Page
    ) -> Rows[PromptVersion]:
        """Return a page of the prompt's versions by number, which is their id here; an absent or
        invisible prompt has none.
        """
        ...


class ResponseState(Protocol):
    """The part of the state store that keeps responses, their items and their logs."""

    async def save_response(self, row: ResponseRow, *, is_update: bool = False) -> None:
        """Store the response and its items, replacing an earlier state of the same response. Must be durable
        when it returns.

        Saved `again`, the earlier state must be there: one that was deleted meanwhile must not come back, and
        `NotFound` is raised.

        Of a response in a conversation, `completed` and `incomplete` must append its items to the
        conversation (an id that is there already is not appended again) and release the lock, in the same
        transaction; `failed` and `cancelled` must release the lock alone. A turn whose response does not hold
        the lock must neither go on nor be appended: nothing is stored then, and `StateUnavailable` raised.

        A response that `end_interrupted` took from this gateway must stay as it is: nothing is stored then,
        and `GatewayStopped` raised.
        """
        ...

    async def response(self, principal: Principal, response: ResponseId) -> ResponseRow | None:
        """Return the response with its items."""
        ...

    async def chain(self, principal: Principal, response: ResponseId) -> list[ResponseRow] | None:
        """Return the response and all it continues from, oldest first; None when any link is absent or
        invisible.
        """
        ...

    async def delete_response(self, principal: Principal, response: ResponseId) -> bool:
        """Delete the response and its items."""
        ...

    async def responses(self, principal: Principal, plan: FilterPlan, page: Page) -> Rows[ResponseRow]:
        """Return a page of the response rows (without items) that the plan permits."""
        ...

    async def response_status(self, principal: Principal, response: ResponseId) -> str | None:
        """Return the status of the response. Must be cheap: whoever waits for its end asks again
        and again.
        """
        ...

    async def request_cancel(self, principal: Principal, response: ResponseId) -> bool:
        """Ask the gateway that makes this background response to cancel it.

        Return False when no other gateway that is present makes it: it has ended, is this gateway's own, or
        was interrupted.
        """
        ...

    async def cancel_requests(self) -> list[ResponseId]:
        """Return the responses, of all tenants, that this gateway makes and was asked to cancel. Must
        be cheap: it is asked every second.
        """
        ...

    async def append_events(self, response: ResponseId, events: Sequence[LoggedEvent]) -> None:
        """Append to the log of events of a response of this gateway; each is kept under its
        `sequence_number`.

        One that is there is never replaced. A response that `end_interrupted` took from this gateway must get
        no more of them.
        """
        ...

    async def events(
        self, principal: Principal, response: ResponseId, *, after: int, limit: int
    ) -> list[LoggedEvent]:
        """Return the logged events with a greater sequence number, in order; -1 is before all. None
        are there for an invisible response.
        """
        ...

    async def logged_sources(
        self, principal: Principal, response: ResponseId, *, through: int
    ) -> list[Source]:
        """Return the sources that are logged with the events up to this sequence number: what those
        after it rest on as well.
        """
        ...

    async def items_with_parents(
        self, principal: Principal, ids: Sequence[str]
    ) -> Mapping[str, ItemWithParent]:
        """Return those of the items that are stored, in a response or a conversation, each with the row that
        holds it.

        An item that several rows hold is taken from where it was first: from the oldest response, else from
        the oldest conversation.
        """
        ...


class ConversationState(Protocol):
    """The part of the state store that keeps conversations."""

    async def add_conversation(self, row: ConversationRow, items: Sequence[StoredItem]) -> None:
        """Store a new conversation with its first items."""
        ...

    async def conversation(
        self, principal: Principal, conversation: ConversationId
    ) -> ConversationRow | None:
        """Return the conversation's row."""
        ...

    async def update_conversation(
        self, principal: Principal, conversation: ConversationId, *, metadata: Mapping[str, str]
    ) -> bool:
        """Replace the conversation's metadata; return False when it is absent or invisible."""
        ...

    async def delete_conversation(self, principal: Principal, conversation: ConversationId) -> bool:
        """Delete the conversation and its items. Responses that were made in it stay. Raises
        `InvalidRequest` while it is locked.
        """
        ...

    async def conversation_items(
        self, principal: Principal, conversation: ConversationId
    ) -> list[StoredItem] | None:
        """Return all items of the conversation, oldest first; None when it is absent or invisible."""
        ...

    async def conversation_page(
        self, principal: Principal, conversation: ConversationId, page: Page
    ) -> Rows[StoredItem] | None:
        """Return a page of the conversation's items in their order, item ids being the cursors; None when it
        is absent or invisible.

        Raises `InvalidRequest` for a cursor that is no item of it.
        """
        ...

    async def conversation_item(
        self, principal: Principal, conversation: ConversationId, item: str
    ) -> StoredItem | None:
        """Return one item of the conversation."""
        ...

    async def append_items(
        self, principal: Principal, conversation: ConversationId, items: Sequence[StoredItem]
    ) -> bool:
        """Append the items; return False when the conversation is absent or invisible. Raises
        `InvalidRequest` while it is locked.
        """
        ...

    async def delete_conversation_item(
        self, principal: Principal, conversation: ConversationId, item: str
    ) -> bool:
        """Delete one item of the conversation. Raises `InvalidRequest` while the conversation is locked."""
        ...

    async def lock_conversation(
        self, principal: Principal, conversation: ConversationId, holder: ResponseId
    ) -> list[StoredItem] | None:
        """Take the conversation's lock for a response and return all its items, in one step; None when it is
        absent or invisible.

        While another response holds it, `InvalidRequest` must be raised. Whoever took it must save the
        response in a final status, or unlock.
        """
        ...

    async def unlock_conversation(self, conversation: ConversationId, holder: ResponseId) -> None:
        """Release the lock if this response holds it. Must be idempotent."""
        ...


class KeyState(Protocol):
    """The part of the state store that keeps idempotency keys."""

    async def claim_key(
        self, principal: Principal, key: str, *, fingerprint: str, claim: str, at: int
    ) -> KeyUse | None:
        """Claim an idempotency key of the principal's own for a create, or return what it is used for
        already. Of many claims one must win.

        A use older than 24 hours, and an unfinished one older than an hour, counts as none.
        """
        ...

    async def finish_key(
        self, principal: Principal, key: str, *, claim: str, created: str, fingerprint: str
    ) -> None:
        """Say what was created under the key, and by which request as it is known by now, if this
        claim still holds.
        """
        ...

    async def release_key(self, principal: Principal, key: str, *, claim: str) -> None:
        """Let the key of a create that failed go, if this claim still holds. Must be idempotent."""
        ...


class StateStore(
    FileState, StoreState, AttachmentState, PromptState, ResponseState, ConversationState, KeyState, Protocol
):
    """The one repository. Every call takes the principal: a row of another tenant must be invisible in SQL
    already (I7, I8).

    A vector store stamped `shared` is visible to all tenants; everything else only within `stamp.tenant`.
    Reads by id return None for absent and invisible alike. Lists apply the plan in SQL. Deletes return False
    when there was nothing visible to delete. All methods must raise `StateUnavailable` when the database
    fails, and each write is one transaction.
    """

    async def stored_bytes(self, principal: Principal) -> int:
        """Return how many bytes of responses, conversations and versions of prompts the principal has
        stored. Must be cheap: each is asked for.
        """
        ...

    async def check(self) -> None:
        """Raise `StateUnavailable` when the database would not answer. Must be cheap: readiness calls it."""
        ...
