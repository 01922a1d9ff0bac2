"""The ports: what the core needs from the world, with the obligations each implementation must meet.

Implementations live in `regate_adapters`, one folder per outside thing, and raise the errors of `errors.py` and no others. Every network
wait in an implementation must have a deadline, and must honour cancellation without leaving anything half-written.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeAlias, TypeVar

from regate_orchestrator.errors import PolicyUnavailable
from regate_orchestrator.filters import FilterPlan, Scalar
from regate_orchestrator.principal import Principal
from regate_orchestrator.responses.events import ModelEvent
from regate_orchestrator.rows import (
    Attachment,
    ConversationRow,
    FileBatch,
    FileRow,
    HeldItem,
    KeyUse,
    LooseChunks,
    Page,
    PromptRow,
    PromptVersion,
    ResponseRow,
    StoreChanges,
    StoredItem,
    StoreRow,
    Totals,
)
from regate_orchestrator.values import BatchId, ConversationId, FileId, Json, JsonObject, PromptId, ResponseId, StoreId

Vector: TypeAlias = Sequence[float]


# ---------------------------------------------------------------- policy


@dataclass(frozen=True, slots=True)
class Answer:
    """What OPA said. `defined` is False for an undefined rule, in which case `value` is None and means nothing."""

    defined: bool
    value: Json
    revision: str


@dataclass(frozen=True, slots=True)
class Planned:
    """A filter plan and the policy revision that it was made under.

    `made_for` is the input's `now` that it was made with, where that is not the one it was asked for: the plan was made for an earlier request.
    """

    plan: FilterPlan
    revision: str
    made_for: int | None = None


class PolicyEngine(Protocol):
    """OPA. Knows nothing of decisions: the enforcer alone reads an answer as an allow."""

    async def ask(self, rule: str, document: JsonObject) -> Answer:
        """Return the value of the rule at this path below `data` for this input, evaluated with strict builtin errors.

        Must raise `PolicyUnavailable` for everything but HTTP 200 with a well-formed body, and when the deadline passes. Must not retry.
        """
        ...

    async def plan(self, rule: str, document: JsonObject, *, unknown: str) -> Planned:
        """Return for which rows `data.<rule>` is true, with `input.<unknown>` being the row.

        Must raise `FilterNotExpressible` when the residual is not understood exactly (with rule, line and reason in its detail), and
        `PolicyUnavailable` as `ask` does. Must never widen.
        """
        ...

    async def revision(self) -> str:
        """Return the revision of the active policy. Must raise `PolicyUnavailable` when no policy is active."""
        ...


# ---------------------------------------------------------------- retrieval


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk to store. Its id is minted by us and names its edition (`editions.py`); `stamp` conforms to the chunk schema.

    The vector is of unit length.
    """

    id: str
    file_id: FileId
    index: int
    text: str
    vector: Vector
    stamp: JsonObject
    attributes: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chunk that a store returned. Nothing but the post-check may look at it before it is admitted.

    `stamp` is the canonical view as stored; `score` is the cosine similarity, negative values cut to 0.
    """

    id: str
    file_id: FileId
    index: int
    text: str
    score: float
    stamp: JsonObject
    attributes: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Found:
    """A search's answer, best first. `total` counts the chunks in the store and `permitted` those matching the plan: audit only (never shown).

    `permitted` is None where the store cannot count them cheaply. `exhausted` says that no further candidate matches the plan.
    """

    candidates: tuple[Candidate, ...]
    total: int
    permitted: int | None
    exhausted: bool


class VectorStore(Protocol):
    """A vector engine. Proven by `regate_adapters.testing.vector_store_conformance`."""

    async def create(self, store: StoreId, *, dimensions: int) -> None:
        """Make the store's place. Must be idempotent."""
        ...

    async def add(self, store: StoreId, chunks: Sequence[Chunk]) -> None:
        """Store the chunks whole: all policy fields with their types. A chunk with an existing id is replaced, never merged."""
        ...

    async def search(self, store: StoreId, vector: Vector, *, plan: FilterPlan, limit: int) -> Found:
        """Return the chunks most similar to the vector among those the plan permits.

        The plan must be applied inside the search. `Nothing` must do no IO. What cannot be rendered exactly must raise
        `FilterNotExpressible` before any IO; a failing engine must raise `VectorStoreUnavailable`, never answer empty. Hits, order and
        scores must not depend on chunks that the plan does not permit. Ties are broken by chunk id.
        """
        ...

    async def texts(self, store: StoreId, ids: Sequence[str]) -> Mapping[str, str]:
        """Return the texts of those of these chunks that are there, by id. The caller has decided that they may be read."""
        ...

    async def restamp(
        self, store: StoreId, file: FileId, *, edition: str, into: str, stamp: JsonObject, attributes: Mapping[str, Scalar]
    ) -> int:
        """Store each chunk of the file's edition once more, under the edition `into` and with this stamp and these attributes; return how many.

        Index, text and vector must be the very same, stamp and attributes replaced and never merged; the chunks of `edition` must stay as
        they are. Must be idempotent: what a broken-off call left of `into` is replaced.
        """
        ...

    async def remove(self, store: StoreId, file: FileId, *, edition: str | None = None) -> None:
        """Remove the chunks of this edition of the file; without one, all chunks of the file. Must be idempotent."""
        ...

    async def editions(self, store: StoreId) -> frozenset[str]:
        """Return which editions have chunks in the store; none for a store that is not there. For housekeeping: may be slow."""
        ...

    async def drop(self, store: StoreId) -> None:
        """Remove the store and all its chunks. Must be idempotent."""
        ...

    async def check(self) -> None:
        """Raise `VectorStoreUnavailable` when the engine would not answer. Must be cheap: readiness calls it."""
        ...


class Embedder(Protocol):
    """An embedding model."""

    @property
    def name(self) -> str:
        """Return what identifies the vector space, e.g. `wordllama-256`; vectors of different names are never compared."""
        ...

    async def dimensions(self) -> int:
        """Return the vectors' length; may load the model or ask the upstream the first time."""
        ...

    async def embed(self, texts: Sequence[str], *, tenant: str) -> list[Vector]:
        """Return one unit-length vector a text. Caches, if any, must be keyed by tenant. Raises `EmbeddingsUnavailable`."""
        ...


# ---------------------------------------------------------------- files


class UnreadableFile(Exception):
    """The file's text could not be taken out. `code` is `unsupported_file` or `invalid_file`; `message` is for the file's owner."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class BlobStore(Protocol):
    """Where the bytes of files are. Proven by `regate_adapters.testing.blobs`.

    An id is written once. What cannot be an id of ours must raise `NotFound` everywhere and must never name a place. Memory held for one
    file must be bounded whatever its size. Must raise `StateUnavailable` when the storage fails.
    """

    async def write(self, file: FileId, parts: AsyncIterator[bytes], *, limit: int) -> int:
        """Store the bytes and return their number. Must raise `TooLarge` past the limit, before all is received.

        The file is there whole or not at all. When it raises, whatever it raises, nothing of it may be left behind.
        """
        ...

    def read(self, file: FileId) -> AsyncIterator[bytes]:
        """Yield the bytes in pieces of bounded size. Raises `NotFound`, before the first piece, when there is no such file."""
        ...

    def local(self, file: FileId) -> AbstractAsyncContextManager[Path]:
        """Yield a local path at which the file can be read until the context is left. Raises `NotFound` when there is no such file.

        A copy made for it must be removed on leaving and readable by nobody else, and no more than a few may exist at a time.
        """
        ...

    async def delete(self, file: FileId) -> None:
        """Remove the bytes. Must be idempotent."""
        ...

    async def check(self) -> None:
        """Raise `StateUnavailable` when the storage would not answer. Must be cheap: readiness calls it."""
        ...


class Extractor(Protocol):
    """Takes the text out of a file and splits it, outside the event loop, in a process with limits on memory, time and output."""

    async def chunks(self, path: Path, *, filename: str, max_tokens: int, overlap_tokens: int) -> list[str]:
        """Return the file's text in chunks of at most `max_tokens` tokens, in order. Raises `UnreadableFile`."""
        ...

    async def text(self, source: Path | bytes, *, filename: str) -> str:
        """Return the whole text of a file, or of bytes that are no file of ours, which must not be many. Raises `UnreadableFile`."""
        ...


# ---------------------------------------------------------------- state


Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Rows(Generic[Row]):
    """A page of rows, and whether more follow."""

    rows: tuple[Row, ...]
    has_more: bool


class StateStore(Protocol):
    """The one repository. Every call takes the principal: a row of another tenant must be invisible in SQL already (I7, I8).

    A vector store stamped `shared` is visible to all tenants; everything else only within `stamp.tenant`. Reads by id return None for
    absent and invisible alike. Lists apply the plan in SQL. Deletes return False when there was nothing visible to delete.
    All methods must raise `StateUnavailable` when the database fails, and each write is one transaction.
    """

    async def add_file(self, row: FileRow) -> None:
        """Store a new file row. From when it expires on, it is absent everywhere, attachments included."""
        ...

    async def file(self, principal: Principal, file: FileId) -> FileRow | None:
        """Return the file's row."""
        ...

    async def files_named(self, principal: Principal, names: Sequence[FileId]) -> Mapping[FileId, FileRow]:
        """Return the rows of these files, of those that are there."""
        ...

    async def files(self, principal: Principal, plan: FilterPlan, page: Page, *, purpose: str | None) -> Rows[FileRow]:
        """Return a page of the file rows that the plan permits."""
        ...

    async def delete_file(self, principal: Principal, file: FileId) -> list[StoreId] | None:
        """Delete the file's row and all its attachments; return the stores it was attached to, or None when it was absent or invisible."""
        ...

    async def add_store(self, row: StoreRow) -> None:
        """Store a new vector store row."""
        ...

    async def store(self, principal: Principal, store: StoreId) -> StoreRow | None:
        """Return the vector store's row."""
        ...

    async def engine_of(self, store: StoreId) -> str | None:
        """Return the vector engine that the store is in, of whatever tenant; None when there is no such row. For `VectorEngines`, nothing else."""
        ...

    async def place_stores(self, *, engine: str) -> int:
        """Record this engine for all stores of which none is recorded, and return how many: those of an earlier version. At start only."""
        ...

    async def stores(self, principal: Principal, plan: FilterPlan, page: Page) -> Rows[StoreRow]:
        """Return a page of the vector store rows that the plan permits."""
        ...

    async def touch_store(self, principal: Principal, store: StoreId, *, at: int) -> None:
        """Record that this tenant used the store: `last_active_at` is kept per tenant, so that no tenant sees another's activity.

        Must not bring a store back that has expired for the tenant.
        """
        ...

    async def update_store(self, principal: Principal, store: StoreId, changes: StoreChanges) -> bool:
        """Change the store; return False when the principal's tenant made no such store. Tenant and owner must never change."""
        ...

    async def delete_store(self, principal: Principal, store: StoreId) -> bool:
        """Delete the store's row and all its attachments. Its place in the vector engine is loose."""
        ...

    async def put_attachments(self, rows: Sequence[Attachment], *, batch: FileBatch | None = None) -> None:
        """Store the attachments, which are all of one tenant and store, and the batch they come in; all or none, in one transaction.

        An earlier attachment of the same file in the same store is replaced whole, and its chunks are loose. Raises `NotFound` when the
        store or a file has gone, or expired, meanwhile.
        """
        ...

    async def amend_attachment(self, row: Attachment, *, since: Attachment) -> bool:
        """Replace the attachment by this row; return False, and change nothing, when its status or edition is not as it was `since`.

        In one transaction with it the edition that `since` named is loose, and the one that the row names, which must have been reserved,
        counts; False as well when that was loose for too long.
        """
        ...

    async def reserve(self, chunks: LooseChunks, *, for_s: int) -> None:
        """Write down that this is about to be stored: after that time it is loose, unless by then an attachment, or a store, counts it."""
        ...

    async def forget_loose_chunks(self, chunks: LooseChunks) -> None:
        """Forget what was loose, since it is gone from the vector engine."""
        ...

    async def in_progress_among(self, principal: Principal, store: StoreId, files: Sequence[FileId]) -> frozenset[FileId]:
        """Return those of these files whose attachment to the store is in progress."""
        ...

    async def attachment(self, principal: Principal, store: StoreId, file: FileId) -> Attachment | None:
        """Return the attachment, looked up by the pair and within the principal's tenant."""
        ...

    async def attachments(
        self, principal: Principal, store: StoreId, plan: FilterPlan, page: Page, *, status: str | None, batch: BatchId | None = None
    ) -> Rows[Attachment]:
        """Return a page of the store's attachments of the principal's tenant that the plan permits (the chunk rule decides on their stamp).

        With a batch, only of those that came in it.
        """
        ...

    async def delete_attachment(self, principal: Principal, store: StoreId, file: FileId) -> Attachment | None:
        """Delete the attachment and return it as it was. From the moment this returns, no search may return its chunks, which are loose."""
        ...

    async def totals(self, principal: Principal, stores: Sequence[StoreId]) -> Mapping[StoreId, Totals]:
        """Return, for each store, what the principal's tenant has in it."""
        ...

    async def live(self, principal: Principal, pairs: Sequence[tuple[StoreId, FileId]]) -> Mapping[tuple[StoreId, FileId], LiveFile]:
        """Return the completed attachments among these pairs, with their present stamp and edition and the file's name. Retrieval joins on it.

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
        """Cancel the batch's files that are in progress; return how many. No worker may complete one of them after this returns."""
        ...

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
        """Change what is given and return the row as it is then; None when absent or invisible. Raises `InvalidRequest` for a version it lacks."""
        ...

    async def delete_prompt(self, principal: Principal, prompt: PromptId) -> bool:
        """Delete the prompt's row and all its versions."""
        ...

    async def add_prompt_version(
        self, principal: Principal, prompt: PromptId, *, template: JsonObject, variables: Sequence[str], created_at: int
    ) -> PromptVersion | None:
        """Store the principal's template as the next version and return it; None when the prompt is absent or invisible.

        Of versions that are added at once each must get a number of its own. The default version stays what it is.
        """
        ...

    async def prompt_version(self, principal: Principal, prompt: PromptId, version: int) -> PromptVersion | None:
        """Return one version of the prompt; None when either is absent or invisible."""
        ...

    async def prompt_versions(self, principal: Principal, prompt: PromptId, page: Page) -> Rows[PromptVersion]:
        """Return a page of the prompt's versions by number, which is their id here; an absent or invisible prompt has none."""
        ...

    async def save_response(self, row: ResponseRow, *, again: bool = False) -> None:
        """Store the response and its items, replacing an earlier state of the same response. Must be durable when it returns.

        Saved `again`, the earlier state must be there: one that was deleted meanwhile must not come back, and `NotFound` is raised.

        Of a response in a conversation, `completed` and `incomplete` must append its items to the conversation (an id that is there already
        is not appended again) and release the lock, in the same transaction; `failed` and `cancelled` must release the lock alone. A turn
        whose response does not hold the lock must neither go on nor be appended: nothing is stored then, and `StateUnavailable` raised.

        A response that `end_interrupted` took from this gateway must stay as it is: nothing is stored then, and `GatewayStopped` raised.
        """
        ...

    async def response(self, principal: Principal, response: ResponseId) -> ResponseRow | None:
        """Return the response with its items."""
        ...

    async def chain(self, principal: Principal, response: ResponseId) -> list[ResponseRow] | None:
        """Return the response and all it continues from, oldest first; None when any link is absent or invisible."""
        ...

    async def delete_response(self, principal: Principal, response: ResponseId) -> bool:
        """Delete the response and its items."""
        ...

    async def responses(self, principal: Principal, plan: FilterPlan, page: Page) -> Rows[ResponseRow]:
        """Return a page of the response rows (without items) that the plan permits."""
        ...

    async def response_status(self, principal: Principal, response: ResponseId) -> str | None:
        """Return the status of the response. Must be cheap: whoever waits for its end asks again and again."""
        ...

    async def request_cancel(self, principal: Principal, response: ResponseId) -> bool:
        """Ask the gateway that makes this background response to cancel it.

        Return False when no other gateway that is present makes it: it has ended, is this gateway's own, or was interrupted.
        """
        ...

    async def cancel_requests(self) -> list[ResponseId]:
        """Return the responses, of all tenants, that this gateway makes and was asked to cancel. Must be cheap: it is asked every second."""
        ...

    async def append_events(self, response: ResponseId, events: Sequence[JsonObject]) -> None:
        """Append to the log of events of a response of this gateway; each is kept under its `sequence_number`.

        One that is there is never replaced. A response that `end_interrupted` took from this gateway must get no more of them.
        """
        ...

    async def events(self, principal: Principal, response: ResponseId, *, after: int, limit: int) -> list[JsonObject]:
        """Return the logged events with a greater sequence number, in order; -1 is before all. None are there for an invisible response."""
        ...

    async def held_items(self, principal: Principal, ids: Sequence[str]) -> Mapping[str, HeldItem]:
        """Return those of the items that are stored, in a response or a conversation, each with the row that holds it.

        An item that several rows hold is taken from where it was first: from the oldest response, else from the oldest conversation.
        """
        ...

    async def add_conversation(self, row: ConversationRow, items: Sequence[StoredItem]) -> None:
        """Store a new conversation with its first items."""
        ...

    async def conversation(self, principal: Principal, conversation: ConversationId) -> ConversationRow | None:
        """Return the conversation's row."""
        ...

    async def update_conversation(self, principal: Principal, conversation: ConversationId, *, metadata: Mapping[str, str]) -> bool:
        """Replace the conversation's metadata; return False when it is absent or invisible."""
        ...

    async def delete_conversation(self, principal: Principal, conversation: ConversationId) -> bool:
        """Delete the conversation and its items. Responses that were made in it stay. Raises `InvalidRequest` while it is locked."""
        ...

    async def conversation_items(self, principal: Principal, conversation: ConversationId) -> list[StoredItem] | None:
        """Return all items of the conversation, oldest first; None when it is absent or invisible."""
        ...

    async def conversation_page(self, principal: Principal, conversation: ConversationId, page: Page) -> Rows[StoredItem] | None:
        """Return a page of the conversation's items in their order, item ids being the cursors; None when it is absent or invisible.

        Raises `InvalidRequest` for a cursor that is no item of it.
        """
        ...

    async def conversation_item(self, principal: Principal, conversation: ConversationId, item: str) -> StoredItem | None:
        """Return one item of the conversation."""
        ...

    async def append_items(self, principal: Principal, conversation: ConversationId, items: Sequence[StoredItem]) -> bool:
        """Append the items; return False when the conversation is absent or invisible. Raises `InvalidRequest` while it is locked."""
        ...

    async def delete_conversation_item(self, principal: Principal, conversation: ConversationId, item: str) -> bool:
        """Delete one item of the conversation. Raises `InvalidRequest` while the conversation is locked."""
        ...

    async def lock_conversation(self, principal: Principal, conversation: ConversationId, holder: ResponseId) -> list[StoredItem] | None:
        """Take the conversation's lock for a response and return all its items, in one step; None when it is absent or invisible.

        While another response holds it, `InvalidRequest` must be raised. Whoever took it must save the response in a final status, or unlock.
        """
        ...

    async def unlock_conversation(self, conversation: ConversationId, holder: ResponseId) -> None:
        """Release the lock if this response holds it. Must be idempotent."""
        ...

    async def claim_key(self, principal: Principal, key: str, *, fingerprint: str, claim: str, at: int) -> KeyUse | None:
        """Claim an idempotency key of the principal's own for a create, or return what it is used for already. Of many claims one must win.

        A use older than 24 hours, and an unfinished one older than an hour, counts as none.
        """
        ...

    async def finish_key(self, principal: Principal, key: str, *, claim: str, created: str) -> None:
        """Say what was created under the key, if this claim still holds."""
        ...

    async def release_key(self, principal: Principal, key: str, *, claim: str) -> None:
        """Let the key of a create that failed go, if this claim still holds. Must be idempotent."""
        ...

    async def forget_keys(self, *, at: int) -> int:
        """Forget the keys, of all tenants, that count as none; return how many."""
        ...

    async def check(self) -> None:
        """Raise `StateUnavailable` when the database would not answer. Must be cheap: readiness calls it."""
        ...


@dataclass(frozen=True, slots=True)
class LiveFile:
    """What is true of an attached file now: the stamp its chunks carry, the edition of them that counts, and the name it is cited by."""

    filename: str
    stamp: JsonObject
    attributes: Mapping[str, Scalar]
    edition: str


# ---------------------------------------------------------------- backend


class Backend(Protocol):
    """The upstreams, seen by the loop: one chat completion at a time, as normalised events."""

    def chat(
        self, upstream: str, payload: JsonObject, *, alternates: Sequence[str] = ()
    ) -> AbstractAsyncContextManager[AsyncIterator[ModelEvent]]:
        """Open a streamed chat completion at the named upstream and yield its events, ending with `ModelEnded`.

        The payload names the model as clients do; the upstream must be sent its own name for it. Must not enter (raise `UpstreamError`
        instead) unless the upstream answered 2xx. The alternates may be asked, in their order, only where it is certain that nothing was sent
        to the one before. Must yield `ModelFailed` when the stream breaks off, ends without a finish reason, or is not understood. Leaving
        the context must close the upstream connection at once.
        """
        ...


@dataclass(frozen=True, slots=True)
class UpstreamTraits:
    """What the operator says an upstream can take. The defaults are what every server of the chat protocol takes."""

    reasoning_field: Literal["none", "reasoning", "reasoning_content"] = "none"
    """The field of an assistant message in which reasoning of earlier turns may be sent back to it; `none`: it must not be sent."""
    image_urls: bool = False
    """Whether http(s) addresses of images may be passed on, which the upstream then fetches itself, from where it stands."""
    context_window: int | None = None
    """Tokens that a request and its answer may have together; None: nobody said."""


@dataclass(frozen=True, slots=True)
class Serving:
    """Who serves a model. `alternates` may be asked instead, in their order, while the upstream cannot be reached."""

    upstream: str
    alternates: tuple[str, ...] = ()


class Catalogue(Protocol):
    """Which models there are, by the names that clients use, and which upstream serves each."""

    async def serving(self, model: str, *, by: str | None = None) -> Serving | None:
        """Return who serves the model, or None when no upstream does. Raises `UpstreamError` when none can say.

        With `by`, None when that very upstream is not configured or does not serve the model; it has no alternates. Without it an upstream
        that is reserved for policy must not be returned.
        """
        ...

    def traits(self, upstream: str) -> UpstreamTraits:
        """Return what the upstream, which `serving` has named, can take."""
        ...


# ---------------------------------------------------------------- quotas


@dataclass(frozen=True, slots=True)
class Allowance:
    """One limit of a caller at one moment: how much is left of it, and in how many seconds nothing of it will be used any more."""

    limit: int
    remaining: int
    reset_s: float


@dataclass(frozen=True, slots=True)
class Counted:
    """A request that was counted, for whom and when, and what is left after it."""

    tenant: str
    subject: str
    at: int
    requests: Allowance
    tokens: Allowance


@dataclass(frozen=True, slots=True)
class Exhausted:
    """A request that would pass a limit, and was not counted. `after_s` is when it would not."""

    limit: Literal["requests", "tokens"]
    asked: int
    after_s: float
    requests: Allowance
    tokens: Allowance


class QuotaCounter(Protocol):
    """Counts what each person, a subject within a tenant, has spent in the last minute. Holds no limits: each call brings those of now."""

    async def reserve(self, principal: Principal, *, rpm: int, tpm: int, tokens: int) -> Counted | Exhausted:
        """Count one request and its tokens, unless either would pass its limit; then nothing must be counted.

        Of any number of calls at once as many must be counted as the limits allow, and no more.
        """
        ...

    async def correct(self, counted: Counted, *, by: int) -> None:
        """Count more tokens of an earlier request, from now on, or fewer, from when it was counted. Never below nothing."""
        ...


# ---------------------------------------------------------------- audit


class AuditLog(Protocol):
    """The append-only record of decisions and data accesses."""

    async def record(self, record: JsonObject) -> None:
        """Append one record. When this returns, the record survives the end of this process. Raises `AuditUnavailable` (I12)."""
        ...


# ---------------------------------------------------------------- figures


class Meter(Protocol):
    """Counts what happened, for operators. Must be cheap, must never raise, and is told nothing of tenants, people or content (I11)."""

    def asked(self, kind: Literal["ask", "plan", "batch"], *, seconds: float) -> None:
        """Note how long the policy engine was waited for, whether it answered or not."""
        ...

    def unanswered(self, error: PolicyUnavailable) -> None:
        """Note that the policy engine gave no usable answer, so that something was refused."""
        ...

    def decided(self, point: str, *, allowed: bool, count: int = 1) -> None:
        """Note decisions of a decision point, by its short name."""
        ...

    def examined(self, *, admitted: int, denied: int, gone: int) -> None:
        """Note what became of the candidates that a vector store returned."""
        ...


class Unmetered:
    """A meter that counts nothing: for tools that nobody watches."""

    def asked(self, kind: Literal["ask", "plan", "batch"], *, seconds: float) -> None:
        """Do nothing."""

    def unanswered(self, error: PolicyUnavailable) -> None:
        """Do nothing."""

    def decided(self, point: str, *, allowed: bool, count: int = 1) -> None:
        """Do nothing."""

    def examined(self, *, admitted: int, denied: int, gone: int) -> None:
        """Do nothing."""
