"""The ports: what the core needs from the world, with the obligations each implementation must meet.

Implementations live in `regate_adapters`, one folder per outside thing, and raise the errors of `errors.py`
and no others. Every network wait in an implementation must have a deadline, and must honour cancellation
without leaving anything half-written.
"""

from __future__ import annotations

from regate_orchestrator.ports.backend import Backend, Catalogue, Serving
from regate_orchestrator.ports.code import CodeFailed, CodeFile, CodeKernels, CodeOutcome, KernelId
from regate_orchestrator.ports.egress import Channel, Fetched, Fetcher, Outgoing, Purpose, ServiceClient
from regate_orchestrator.ports.files import BlobStore, Extractor, UnreadableFile
from regate_orchestrator.ports.guards import GUARD_STEPS, Findings, GuardProvider, GuardStep, Span
from regate_orchestrator.ports.identity import IdentityProvider
from regate_orchestrator.ports.images import ImageFailed, ImageMaker, MadeImage
from regate_orchestrator.ports.mcp import (
    Annotations,
    Identity,
    McpListFailed,
    McpOutcome,
    McpServer,
    McpServers,
    McpTool,
)
from regate_orchestrator.ports.observation import AuditLog
from regate_orchestrator.ports.policy import Answer, DecisionMemory, Planned, PolicyEngine, Recall
from regate_orchestrator.ports.quota import Allowance, Counted, Exhausted, QuotaCounter
from regate_orchestrator.ports.retrieval import (
    Candidate,
    Chunk,
    Embedder,
    Found,
    Mode,
    Query,
    Vector,
    VectorStore,
)
from regate_orchestrator.ports.state import (
    ApiKeyState,
    AttachmentState,
    ConversationState,
    EventState,
    FileBatchState,
    FileState,
    IdempotencyKeyState,
    ItemState,
    LeaseState,
    MembershipState,
    OrphanedBlobState,
    OrphanedChunkState,
    PromptState,
    ResponseState,
    StateStore,
    StoredBytesState,
    UploadState,
    VectorStoreState,
)
from regate_orchestrator.ports.web_search import (
    SearchFailed,
    SearchProvider,
    WebHit,
    WebPlace,
    WebQuery,
)

__all__ = [
    "GUARD_STEPS",
    "Allowance",
    "Annotations",
    "Answer",
    "ApiKeyState",
    "AttachmentState",
    "AuditLog",
    "Backend",
    "BlobStore",
    "Candidate",
    "Catalogue",
    "Channel",
    "Chunk",
    "CodeFailed",
    "CodeFile",
    "CodeKernels",
    "CodeOutcome",
    "ConversationState",
    "Counted",
    "DecisionMemory",
    "Embedder",
    "EventState",
    "Exhausted",
    "Extractor",
    "Fetched",
    "Fetcher",
    "FileBatchState",
    "FileState",
    "Findings",
    "Found",
    "GuardProvider",
    "GuardStep",
    "IdempotencyKeyState",
    "Identity",
    "IdentityProvider",
    "ImageFailed",
    "ImageMaker",
    "ItemState",
    "KernelId",
    "LeaseState",
    "MadeImage",
    "McpListFailed",
    "McpOutcome",
    "McpServer",
    "McpServers",
    "McpTool",
    "MembershipState",
    "Mode",
    "OrphanedBlobState",
    "OrphanedChunkState",
    "Outgoing",
    "Planned",
    "PolicyEngine",
    "PromptState",
    "Purpose",
    "Query",
    "QuotaCounter",
    "Recall",
    "ResponseState",
    "SearchFailed",
    "SearchProvider",
    "ServiceClient",
    "Serving",
    "Span",
    "StateStore",
    "StoredBytesState",
    "UnreadableFile",
    "UploadState",
    "Vector",
    "VectorStore",
    "VectorStoreState",
    "WebHit",
    "WebPlace",
    "WebQuery",
]
