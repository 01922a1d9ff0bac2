"""`SqlStateStore`: the state port over a SQL database, put together from its parts. Proven by the
conformance tests of the port.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final, Self

from sqlalchemy import select

from regate_adapters.state.callers.api_keys import ApiKeyState
from regate_adapters.state.callers.stored_bytes import StoredBytesState
from regate_adapters.state.callers.usage import UsageState
from regate_adapters.state.database import Database
from regate_adapters.state.dialects import SERVER_OPTIONS, ServerOptions
from regate_adapters.state.documents.attachments import AttachmentState
from regate_adapters.state.documents.contexts import ContextState
from regate_adapters.state.documents.file_batches import FileBatchState
from regate_adapters.state.documents.files import FileState
from regate_adapters.state.documents.leases import LeaseState
from regate_adapters.state.documents.orphaned_blobs import OrphanedBlobState
from regate_adapters.state.documents.orphaned_chunks import OrphanedChunkState
from regate_adapters.state.documents.uploads import UploadState
from regate_adapters.state.documents.vector_stores import VectorStoreState
from regate_adapters.state.membership import MembershipState
from regate_adapters.state.responses.conversations import ConversationState
from regate_adapters.state.responses.events import EventState
from regate_adapters.state.responses.idempotency_keys import IdempotencyKeyState
from regate_adapters.state.responses.items import ItemState
from regate_adapters.state.responses.permits import ApprovalState, ToolUseState
from regate_adapters.state.responses.prompts import PromptState
from regate_adapters.state.responses.responses import ResponseState
from regate_adapters.state.tables import schema_revision
from regate_orchestrator.values import Clock, GatewayId, wall_clock

_DEADLINE_SECONDS: Final = 5.0


class SqlStateStore:
    """The one repository (`ports.StateStore`). Every statement carries the tenant floor; every call
    ends within the deadline.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.files = FileState(database)
        self.orphaned_blobs = OrphanedBlobState(database)
        self.uploads = UploadState(database)
        self.vector_stores = VectorStoreState(database)
        self.attachments = AttachmentState(database)
        self.file_batches = FileBatchState(database)
        self.contexts = ContextState(database)
        self.leases = LeaseState(database)
        self.orphaned_chunks = OrphanedChunkState(database)
        self.prompts = PromptState(database)
        self.responses = ResponseState(database)
        self.events = EventState(database)
        self.items = ItemState(database)
        self.conversations = ConversationState(database)
        self.idempotency_keys = IdempotencyKeyState(database)
        self.approvals = ApprovalState(database)
        self.tool_uses = ToolUseState(database)
        self.membership = MembershipState(database)
        self.api_keys = ApiKeyState(database)
        self.stored_bytes = StoredBytesState(database)
        self.usage = UsageState(database)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        url: str,
        *,
        setting: str = "state.url",
        deadline_s: float = _DEADLINE_SECONDS,
        clock: Clock = wall_clock,
        gateway: GatewayId | None = None,
        server: ServerOptions = SERVER_OPTIONS,
    ) -> AsyncIterator[Self]:
        """Yield the store over the database at the URL (`sqlite:///path`), its tables made if it is new and
        upgraded if they are old.

        What it writes that is in flight is that gateway's, by default a new one's. Opening makes none present
        (`membership.heartbeat`).

        Raises `ConfigurationError`, naming the setting that holds the URL, when the database cannot be used,
        is something else's, or was upgraded by a later program.
        """
        async with Database.open(
            url, setting=setting, deadline_s=deadline_s, clock=clock, gateway=gateway, server=server
        ) as database:
            yield cls(database)

    def pool_use(self) -> Mapping[str, int]:
        """Return how many connections to a server are `in_use` and `idle`, and how many calls are `waiting`
        for one.
        """
        return self._database.pool_use()

    async def check(self) -> None:
        """Raise `StateUnavailable` when the database would not answer."""
        async with self._database.maintenance.reading() as connection:
            await connection.execute(select(schema_revision.c.revision))
