"""What routes work with: the core's services and the ports, all as the types of the core. Made by
`wiring.py`.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.types import Scope

from regate_gateway.config.settings import Settings
from regate_gateway.telemetry.exposition import Figures
from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.authz.lists import Listings
from regate_orchestrator.conversations import ConversationWriter
from regate_orchestrator.documents.attachments import Attachments
from regate_orchestrator.documents.embedding import EmbeddingModels
from regate_orchestrator.documents.upload_parts import ChunkedUploads
from regate_orchestrator.documents.uploads import FileUploads
from regate_orchestrator.errors import RegateError, VectorStoreUnavailable
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import Backend, BlobStore, Catalogue, StateStore
from regate_orchestrator.principal import Principal
from regate_orchestrator.quota.metering import Quotas
from regate_orchestrator.quota.storage import Storage
from regate_orchestrator.responses.background import BackgroundRuns
from regate_orchestrator.responses.driver import LoopPorts
from regate_orchestrator.responses.message_parts import MessageParts
from regate_orchestrator.retrieval.engines import VectorEngines
from regate_orchestrator.retrieval.model_rewriting import QueryRewriting
from regate_orchestrator.retrieval.search import Retrieval
from regate_orchestrator.rows import OrphanedChunks
from regate_orchestrator.values import Clock, FileId, JsonObject, StoreId

_log = logging.getLogger("regate.services")


class Answering(Protocol):
    """An upstream's answer, known to be one: its bytes as they come."""

    @property
    def is_stream(self) -> bool:
        """Whether it is a stream of events, and else JSON."""
        ...

    @property
    def failure(self) -> RegateError | None:
        """What failed amid a stream that was told so, known when the chunks have ended; None where nothing
        did.
        """
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body's bytes; of a stream whole events. Raises `UpstreamError` when they break off."""
        ...


class Upstreams(Catalogue, Protocol):
    """The configured upstreams, for the proxied routes and for readiness."""

    @property
    def extra_fields(self) -> frozenset[str]:
        """The fields beyond the API's own that any upstream takes."""
        ...

    async def model_entries(self) -> list[JsonObject]:
        """Return the models that any request may be routed to, in the API's shape."""
        ...

    async def reserved_entries(self) -> list[tuple[JsonObject, frozenset[str]]]:
        """Return the models that are served only where policy says so, each with the upstreams that
        the policy may name for it.
        """
        ...

    def pass_through(
        self, upstream: str, path: str, payload: JsonObject, *, streamed: bool, alternates: Sequence[str] = ()
    ) -> AbstractAsyncContextManager[Answering]:
        """Send a request of our own making; raises `UpstreamError` unless the upstream, or an
        alternate in its place, answers it.
        """
        ...

    def reach(self) -> Mapping[str, str]:
        """Return for every upstream how it was found last: `ok`, `unreachable`, `denied`, `no_models`
        or `unknown`.
        """
        ...

    async def check(self) -> None:
        """Raise `UpstreamError` when not one upstream can be reached."""
        ...


class Authenticator(Protocol):
    """Whoever turns a request's one `Authorization` header into a principal."""

    async def context(self, scope: Scope) -> Context:
        """Return on whose behalf this request is; raises `Unauthenticated`."""
        ...


class Explaining(Protocol):
    """Whoever explains decisions, recorded ones and such as nobody asked for yet. Whoever asks must
    have been permitted to.
    """

    async def decision(self, tenant: str, decision: str) -> dict[str, Any] | None:
        """Return the decision of this tenant explained, or None when there is none."""
        ...

    async def response(self, tenant: str, response: str) -> dict[str, Any] | None:
        """Return everything decided for this tenant's response explained, or None when there is nothing."""
        ...

    async def file(
        self, principal: Principal, file: FileId, store: StoreId | None, *, now: int
    ) -> dict[str, Any]:
        """Return why the principal finds a stored file, or does not. Raises `InvalidRequest` where its
        tenant has no such file in the store.
        """
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a route may use."""

    settings: Settings
    authenticator: Authenticator
    enforcer: Enforcer
    state: StateStore
    blobs: BlobStore
    files: FileUploads
    chunked_uploads: ChunkedUploads
    vectors: VectorEngines
    models: EmbeddingModels
    retrieval: Retrieval
    rewriting: QueryRewriting
    listings: Listings
    attachments: Attachments
    upstreams: Upstreams
    loop: LoopPorts
    """What a run needs, but for the backend: that comes with a quota (`routes/quotas.py`)."""
    backend: Backend
    parts: MessageParts
    """Reads the files and images inside messages."""
    conversation_writer: ConversationWriter
    background: BackgroundRuns
    quotas: Quotas
    storage: Storage
    schemas: Mapping[str, RowSchema]
    policy_problem: Callable[[], str | None]
    """Returns why the newest policy is not in force, in words that hold no policy text; None when it is."""
    explaining: Explaining
    figures: Callable[[], Awaitable[Figures]]
    """Returns what all processes of this gateway count, together. Raises `TimeoutError`."""
    clock: Clock

    async def forget_chunks(self, store: StoreId, file: FileId) -> None:
        """Remove all chunks of a file that is deleted. A failure is logged only: without its row no
        search reaches them, and they are collected.
        """
        try:
            await self.vectors.remove(store, file)
        except VectorStoreUnavailable as error:
            _log.warning("chunks_left_behind", extra={"store": store, "file": file, "detail": error.detail})

    async def forget_generation(self, store: StoreId, file: FileId, generation: str) -> None:
        """Remove the chunks of a file that is no longer attached; others of the file stay, which may
        be attached again. Fails as above.
        """
        try:
            await self.vectors.remove(store, file, generation=generation)
        except VectorStoreUnavailable as error:
            _log.warning("chunks_left_behind", extra={"store": store, "file": file, "detail": error.detail})
        else:
            await self.state.orphaned_chunks.forget(OrphanedChunks(store, file, generation))
