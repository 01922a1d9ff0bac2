"""Wiring: the parts that the modules beside make of settings become services, and services an application.

Each of `decisions`, `stores`, `upstreams`, `documents`, `responses` and `maintenance` makes one part. This
folder alone names concrete adapters.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from starlette.types import ASGIApp, Receive, Scope, Send

from regate_adapters.backend.chat import ChatBackend
from regate_adapters.backend.upstreams import Upstreams
from regate_gateway.app import build_app
from regate_gateway.auth.authenticator import Authenticator
from regate_gateway.auth.opening import open_providers
from regate_gateway.composition.decisions import Decisions, open_decisions
from regate_gateway.composition.documents import Documents, make_documents
from regate_gateway.composition.maintenance import USUAL_RHYTHM, Maintenance, Rhythm, make_maintenance
from regate_gateway.composition.opening import Worker
from regate_gateway.composition.outside.egress import LazyFetcher, make_guard
from regate_gateway.composition.outside.guards import open_guards
from regate_gateway.composition.outside.mcp import make_mcp_servers
from regate_gateway.composition.outside.tracing import make_tracer
from regate_gateway.composition.outside.upstreams import open_upstreams
from regate_gateway.composition.readings import (
    read_audit,
    read_databases,
    read_decisions,
    read_garbage,
    read_upstreams,
)
from regate_gateway.composition.responses import Outside, Responses, make_responses
from regate_gateway.composition.seat import Seat
from regate_gateway.composition.sharing import Sharing, open_sharing, warn_when_not_shared
from regate_gateway.composition.stores import Stores, open_stores
from regate_gateway.composition.succession import succession
from regate_gateway.config.settings import Settings
from regate_gateway.http.cors import CrossOrigin
from regate_gateway.http.middleware import Edge
from regate_gateway.http.server import serve
from regate_gateway.services import Services
from regate_gateway.telemetry.exposition import Figures, figures_of
from regate_orchestrator.authz.lists import Listings
from regate_orchestrator.documents.ingestion import WORKERS
from regate_orchestrator.errors import ConfigurationError, PolicyUnavailable
from regate_orchestrator.metrics import Metrics
from regate_orchestrator.quota.metering import Quotas
from regate_orchestrator.quota.storage import Storage
from regate_orchestrator.retrieval.model_rewriting import QueryRewriting
from regate_orchestrator.values import Clock, wall_clock

_log = logging.getLogger("regate.gateway")


@dataclass(frozen=True, slots=True)
class Opened:
    """Services that are ready, and what must run in the background for as long as they are used."""

    services: Services
    workers: tuple[Worker, ...]


@dataclass(frozen=True, slots=True)
class Parts:
    """All parts of a gateway, opened and put together."""

    settings: Settings
    decisions: Decisions
    upstreams: Upstreams
    stores: Stores
    documents: Documents
    responses: Responses
    maintenance: Maintenance
    sharing: Sharing
    metrics: Metrics
    clock: Clock
    seat: Seat | None


class Gateway:
    """The whole gateway as one ASGI application: it opens at the server's startup and closes at its shutdown.

    `services` is there between the two, for the demonstration and for operators' tools in the same process.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        clock: Clock,
        rhythm: Rhythm,
        *,
        at_end: Callable[[], Awaitable[None]] | None = None,
        seat: Seat | None = None,
    ) -> None:
        self._at_end = at_end
        self._seat = seat
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._rhythm = rhythm
        self._app: ASGIApp | None = None
        self.services: Services | None = None

    async def revision(self) -> str | None:
        """Return the revision of the policy in force, while the gateway is open; None while there is none."""
        assert self.services is not None  # noqa: S101 — INVARIANT: whoever asks waited until it was opened
        try:
            return await self.services.enforcer.revision()
        except PolicyUnavailable:
            return None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or the lifespan."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            # INVARIANT: the server serves nothing before startup is complete
            assert self._app is not None  # noqa: S101
            await self._app(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            async with AsyncExitStack() as stack:
                if self._at_end is not None:
                    stack.push_async_callback(self._at_end)
                if self._seat is not None:
                    await stack.enter_async_context(self._seat)
                opened = await open_services(
                    stack,
                    self._settings,
                    self._metrics,
                    clock=self._clock,
                    rhythm=self._rhythm,
                    seat=self._seat,
                )
                self.services = opened.services
                self._app = build_app(opened.services)
                async with asyncio.TaskGroup() as group:
                    running = [group.create_task(worker()) for worker in opened.workers]
                    await send({"type": "lifespan.startup.complete"})
                    await receive()
                    for task in running:
                        task.cancel()
        except ConfigurationError as error:
            await send({"type": "lifespan.startup.failed", "message": error.message})
            return
        await send({"type": "lifespan.shutdown.complete"})


def gateway_app(
    settings: Settings, *, clock: Clock = wall_clock, rhythm: Rhythm = USUAL_RHYTHM, seat: Seat | None = None
) -> tuple[ASGIApp, Gateway]:
    """Return the application with its edge, and the gateway inside it: with a seat, one worker of several.

    By the clock rows are made and expire, and nothing else. Raises `ConfigurationError` for traces that could
    not be exported.
    """
    metrics = Metrics()
    tracer = make_tracer(settings.telemetry.traces, metrics)
    at_end = None if tracer is None else tracer.close
    gateway = Gateway(settings, metrics, clock, rhythm, at_end=at_end, seat=seat)
    edge = Edge(
        gateway,
        access_log=settings.telemetry.access_log,
        metrics=metrics,
        cross_origin=CrossOrigin(settings.listen.cors_origins),
        tracer=tracer,
    )
    return edge, gateway


def serve_alone(settings: Settings, announce: Callable[[str, str | None], None]) -> None:
    """Serve in this process until it is told to end. `announce` is called with the address and the revision
    of the policies once requests are answered. Raises `ConfigurationError`.
    """
    app, gateway = gateway_app(settings)

    async def listening(address: str) -> None:
        announce(address, await gateway.revision())

    serve(app, settings.listen, when_listening=listening)


async def open_services(
    stack: AsyncExitStack,
    settings: Settings,
    metrics: Metrics,
    *,
    clock: Clock = wall_clock,
    rhythm: Rhythm = USUAL_RHYTHM,
    seat: Seat | None = None,
) -> Opened:
    """Return the services, opened on the stack and counting in `metrics`. Raises `ConfigurationError`
    when anything cannot be used as configured.
    """
    decisions = await open_decisions(stack, settings, metrics, seat)
    upstreams = await open_upstreams(stack, settings)
    stores = await open_stores(stack, settings, decisions.schemas["chunk"], clock)
    sharing = await open_sharing(stack, settings, stores.state, metrics, clock)
    _forget_together(decisions, sharing)
    guards = await open_guards(stack, settings, decisions, metrics)
    documents = make_documents(settings, decisions, stores, guards, metrics, clock)
    guard = make_guard(settings.egress, decisions, metrics)
    outside = Outside(
        upstreams,
        guard,
        LazyFetcher(settings.egress, guard),
        make_mcp_servers(settings.tools.mcp, guard, metrics),
    )
    responses = make_responses(settings, decisions, stores, documents, outside, guards, sharing.notices)
    maintenance = make_maintenance(decisions, stores, clock, rhythm)
    parts = Parts(
        settings,
        decisions,
        upstreams,
        stores,
        documents,
        responses,
        maintenance,
        sharing,
        metrics,
        clock,
        seat,
    )
    services = await _services(stack, parts)
    stack.push_async_callback(maintenance.membership.end)
    await _resume(stack, parts)
    containers = responses.containers
    if containers is not None:
        stack.push_async_callback(containers.close)
    workers = (
        *decisions.workers,
        *sharing.workers,
        *_warnings(settings, services, stores),
        *([] if seat is None else [seat.work]),
        *([] if containers is None else [containers.work]),
        responses.background.work,
        responses.loop.afterwards.work,
        maintenance.membership.work,
        maintenance.garbage_collector.work,
        *[documents.ingestion.work] * WORKERS,
    )
    return Opened(services, workers)


async def _services(stack: AsyncExitStack, parts: Parts) -> Services:
    """Return the services over the parts, which the metrics watch from now on."""
    settings, decisions, stores, documents = parts.settings, parts.decisions, parts.stores, parts.documents
    enforcer, maintenance, responses = decisions.enforcer, parts.maintenance, parts.responses
    providers = await stack.enter_async_context(open_providers(settings, stores.state.api_keys))
    listings = Listings(enforcer)
    metrics = parts.metrics
    read_decisions(metrics, decisions.engine, documents.retrieval, listings)
    read_audit(metrics, decisions.audit, decisions.exporters)
    read_garbage(metrics, maintenance.garbage_collector, maintenance.vector_garbage)
    read_databases(metrics, stores.pools)
    read_upstreams(metrics, parts.upstreams.reach)
    return Services(
        settings=settings,
        authenticator=Authenticator(
            providers, enforcer, anonymous=settings.auth.anonymous, tells_principal=_tells_principal(settings)
        ),
        enforcer=enforcer,
        state=stores.state,
        blobs=stores.blobs,
        files=documents.files,
        chunked_uploads=documents.chunked_uploads,
        vectors=stores.vectors,
        models=stores.models,
        retrieval=documents.retrieval,
        rewriting=QueryRewriting(stores.query_rewriter, metrics),
        listings=listings,
        attachments=documents.attachments,
        upstreams=parts.upstreams,
        loop=responses.loop,
        backend=ChatBackend(parts.upstreams),
        parts=responses.parts,
        conversation_writer=responses.conversation_writer,
        background=responses.background,
        quotas=Quotas(parts.sharing.counter, metrics, parts.sharing.usage.note),
        storage=Storage(enforcer, stores.state.stored_bytes),
        schemas=decisions.schemas,
        policy_problem=decisions.problem,
        explaining=decisions.explaining(settings, stores.state),
        figures=_figures(parts),
        clock=parts.clock,
    )


def _figures(parts: Parts) -> Callable[[], Awaitable[Figures]]:
    """Return what returns the figures of this gateway, with those of all its workers."""
    own = partial(figures_of, parts.metrics)
    if parts.seat is None:
        return own
    parts.seat.count_with(own)
    return parts.seat.figures


def _warnings(settings: Settings, services: Services, stores: Stores) -> list[Worker]:
    """Return what warns of quotas that gateways do not share."""
    membership = stores.state.membership
    if settings.redis.is_used or not membership.is_shared:
        return []
    return [partial(warn_when_not_shared, services.quotas, membership)]


def _forget_together(decisions: Decisions, sharing: Sharing) -> None:
    """Have remembered decisions forgotten when our OPA takes other policies or is gone, and by the gateways
    that hear of it.
    """

    def forget() -> None:
        decisions.engine.forget()
        sharing.notices.tell("forget")

    decisions.on_change(forget)
    sharing.notices.subscribe("forget", lambda _: decisions.engine.forget())


def _tells_principal(settings: Settings) -> bool:
    traces = settings.telemetry.traces
    return traces is not None and traces.principal


async def _resume(stack: AsyncExitStack, parts: Parts) -> None:
    """Be present, and take up or end what earlier gateways had in flight."""
    worker = None if parts.seat is None else parts.seat.number
    held = stack.enter_context(succession(parts.settings.data_dir, worker))
    membership = parts.maintenance.membership
    resumed, interrupted = (
        await parts.documents.ingestion.resume(),
        await membership.begin(before=held.before),
    )
    held.take(parts.stores.state.membership.gateway)
    if resumed or interrupted:
        _log.warning(
            "resumed",
            extra={"detail": f"{resumed} attachments to finish, {interrupted} responses were interrupted"},
        )
    if parts.settings.state.sealing_key_env is not None:
        return
    siblings = 0 if parts.seat is None else parts.seat.of - 1  # they have this one's data_dir
    others = await parts.stores.state.membership.others_present() - siblings
    if others > 0:
        detail = (
            "state.sealing_key_env is not set, so no gateway can open what another sealed for a client "
            "(encrypted_content)"
        )
        _log.warning("sealing_key_not_shared", extra={"count": others, "detail": detail})
