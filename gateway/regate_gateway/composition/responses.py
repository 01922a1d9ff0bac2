"""What makes responses: the gate of the context, the authorizer, and what a run and a background run need."""

from __future__ import annotations

from dataclasses import dataclass

from regate_adapters.backend.upstreams import Upstreams
from regate_adapters.egress.guard import EgressGuard
from regate_adapters.sealing.aead import AeadSealer
from regate_gateway.composition.decisions import Decisions
from regate_gateway.composition.documents import Documents
from regate_gateway.composition.opening import sealing_secret
from regate_gateway.composition.stores import Stores
from regate_gateway.composition.tools.code import make_code
from regate_gateway.composition.tools.images import make_imaging
from regate_gateway.composition.tools.web import make_web
from regate_gateway.config.settings import Settings
from regate_gateway.routes.responses.server_tools.registration import RunnerParts
from regate_gateway.routes.responses.server_tools.registry import REGISTERED
from regate_orchestrator.conversations import ConversationWriter
from regate_orchestrator.documents.file_text import FileReader
from regate_orchestrator.documents.made_files import MadeFiles
from regate_orchestrator.guards.checking import Guards
from regate_orchestrator.ports import Fetcher, McpServers, Notices
from regate_orchestrator.responses.background import BackgroundRuns
from regate_orchestrator.responses.context.authorizing import Authorizer
from regate_orchestrator.responses.context.gate import Gate
from regate_orchestrator.responses.driver import LoopPorts
from regate_orchestrator.responses.message_parts import MessageParts
from regate_orchestrator.responses.request import Limits
from regate_orchestrator.responses.tools.calls import ToolCalls
from regate_orchestrator.responses.tools.containers import Containers
from regate_orchestrator.responses.tools.permits import Permits


@dataclass(frozen=True, slots=True)
class Responses:
    """The parts that responses and conversations are made with."""

    loop: LoopPorts
    background: BackgroundRuns
    parts: MessageParts
    conversation_writer: ConversationWriter
    containers: Containers | None
    """Where code runs; None where nothing is configured."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What responses reach outside: models, addresses, and servers of tools."""

    upstreams: Upstreams
    guard: EgressGuard
    fetcher: Fetcher
    mcp: McpServers


def make_responses(
    settings: Settings,
    decisions: Decisions,
    stores: Stores,
    documents: Documents,
    outside: Outside,
    guards: Guards,
    notices: Notices,
) -> Responses:
    """Return what responses are made with. Raises `ConfigurationError` for a sealing key that is none."""
    enforcer, state = decisions.enforcer, stores.state
    sealer = AeadSealer(sealing_secret(settings).reveal().encode())
    reader = FileReader(stores.blobs, stores.extractor)
    parts = MessageParts(reader, outside.fetcher)
    permits = Permits(enforcer, state)
    gate = Gate(enforcer, state, documents.retrieval, decisions.schemas["file"])
    made = MadeFiles(documents.files)
    web = make_web(settings.tools.web_search, outside.guard, outside.fetcher, reader)
    code = make_code(settings.tools.code_interpreter, outside.guard, gate, reader, made)
    imaging = make_imaging(settings.tools.image_generation, outside.upstreams, made)
    runner_parts = RunnerParts(enforcer, documents.retrieval, outside.mcp, web, code, imaging)
    loop = LoopPorts(
        enforcer=enforcer,
        state=state,
        tools=tool_calls(runner_parts, permits, guards),
        gate=gate,
        authorizer=Authorizer(enforcer, gate, documents.retrieval, outside.upstreams, sealer, parts, permits),
        sealer=sealer,
        guards=guards,
        limits=Limits(settings.tools.max_rounds, settings.tools.max_tool_calls),
    )
    return Responses(
        loop=loop,
        background=BackgroundRuns(loop, notices, most=settings.tools.max_background),
        parts=parts,
        containers=None if code is None else code.containers,
        conversation_writer=ConversationWriter(enforcer, state.items, gate, sealer, guards),
    )


def tool_calls(parts: RunnerParts, permits: Permits, guards: Guards) -> ToolCalls:
    """Return what decides and runs calls of all kinds that are registered."""
    kinds = {one.kind.type: one for one in REGISTERED.values()}
    return ToolCalls(
        parts.enforcer,
        {name: one.runner(parts) for name, one in kinds.items()},
        permits,
        guards,
        {name: one.lister(parts) for name, one in kinds.items() if one.lister is not None},
    )
