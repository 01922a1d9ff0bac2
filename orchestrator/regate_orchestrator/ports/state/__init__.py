"""The state store: one repository in parts, which are implemented part by part under the same names
(`adapters/state/`).
"""

from __future__ import annotations

from typing import Protocol

from regate_orchestrator.ports.state.api_keys import ApiKeyState
from regate_orchestrator.ports.state.documents.attachments import AttachmentState
from regate_orchestrator.ports.state.documents.contexts import ContextState
from regate_orchestrator.ports.state.documents.file_batches import FileBatchState
from regate_orchestrator.ports.state.documents.files import FileState
from regate_orchestrator.ports.state.documents.leases import LeaseState
from regate_orchestrator.ports.state.documents.orphaned_blobs import OrphanedBlobState
from regate_orchestrator.ports.state.documents.orphaned_chunks import OrphanedChunkState
from regate_orchestrator.ports.state.documents.uploads import UploadState
from regate_orchestrator.ports.state.documents.vector_stores import VectorStoreState
from regate_orchestrator.ports.state.membership import MembershipState
from regate_orchestrator.ports.state.responses.conversations import ConversationState
from regate_orchestrator.ports.state.responses.events import EventState
from regate_orchestrator.ports.state.responses.idempotency_keys import IdempotencyKeyState
from regate_orchestrator.ports.state.responses.items import ItemState
from regate_orchestrator.ports.state.responses.permits import ApprovalState, ToolUseState
from regate_orchestrator.ports.state.responses.prompts import PromptState
from regate_orchestrator.ports.state.responses.responses import ResponseState
from regate_orchestrator.ports.state.stored_bytes import StoredBytesState
from regate_orchestrator.ports.state.usage import UsageKey, UsageRow, UsageState


class StateStore(Protocol):
    """The one repository. To a call that takes a principal a row of another tenant must be invisible in SQL
    already (I7, I8). Calls without a principal see all tenants, and are for the program's own work.

    A vector store stamped `shared` is visible to all tenants; everything else only within `stamp.tenant`.
    Reads by id return None for absent and invisible alike. Lists apply the plan in SQL. Deletes return False
    when there was nothing visible to delete. All methods must raise `StateUnavailable` when the database
    fails, and each write is one transaction.
    """

    @property
    def files(self) -> FileState:
        """Keeps files."""
        ...

    @property
    def orphaned_blobs(self) -> OrphanedBlobState:
        """Knows which bytes in the blob store no file has."""
        ...

    @property
    def uploads(self) -> UploadState:
        """Keeps uploads. Each is the principal's own."""
        ...

    @property
    def vector_stores(self) -> VectorStoreState:
        """Keeps vector stores."""
        ...

    @property
    def attachments(self) -> AttachmentState:
        """Keeps attachments."""
        ...

    @property
    def file_batches(self) -> FileBatchState:
        """Keeps the batches that attachments come in."""
        ...

    @property
    def contexts(self) -> ContextState:
        """Keeps the contexts of chunks."""
        ...

    @property
    def leases(self) -> LeaseState:
        """Hands attachments of all tenants out to workers, for ingestion alone."""
        ...

    @property
    def orphaned_chunks(self) -> OrphanedChunkState:
        """Knows which generations of chunks are orphaned, or would be."""
        ...

    @property
    def prompts(self) -> PromptState:
        """Keeps prompts and their versions."""
        ...

    @property
    def responses(self) -> ResponseState:
        """Keeps responses with their items."""
        ...

    @property
    def events(self) -> EventState:
        """Keeps the events of responses."""
        ...

    @property
    def items(self) -> ItemState:
        """Finds items in responses and conversations."""
        ...

    @property
    def conversations(self) -> ConversationState:
        """Keeps conversations with their items."""
        ...

    @property
    def idempotency_keys(self) -> IdempotencyKeyState:
        """Keeps idempotency keys. Each is the principal's own."""
        ...

    @property
    def approvals(self) -> ApprovalState:
        """Keeps requests for approval. Each is the principal's own."""
        ...

    @property
    def tool_uses(self) -> ToolUseState:
        """Counts the calls of tools."""
        ...

    @property
    def membership(self) -> MembershipState:
        """Knows which gateways are present, and ends what those that are gone had in flight."""
        ...

    @property
    def api_keys(self) -> ApiKeyState:
        """Keeps API keys."""
        ...

    @property
    def stored_bytes(self) -> StoredBytesState:
        """Adds up what a principal has stored."""
        ...

    @property
    def usage(self) -> UsageState:
        """Adds up what was used."""
        ...

    async def check(self) -> None:
        """Raise `StateUnavailable` when the database would not answer. Must be cheap: readiness calls it."""
        ...


__all__ = [
    "ApiKeyState",
    "ApprovalState",
    "AttachmentState",
    "ContextState",
    "ConversationState",
    "EventState",
    "FileBatchState",
    "FileState",
    "IdempotencyKeyState",
    "ItemState",
    "LeaseState",
    "MembershipState",
    "OrphanedBlobState",
    "OrphanedChunkState",
    "PromptState",
    "ResponseState",
    "StateStore",
    "StoredBytesState",
    "ToolUseState",
    "UploadState",
    "UsageKey",
    "UsageRow",
    "UsageState",
    "VectorStoreState",
]
