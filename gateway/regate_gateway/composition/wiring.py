"""Wiring: settings become adapters, adapters become services, services an application. With
`opening.py` it alone names concrete adapters.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from regate_adapters.audit.log import SegmentedAuditLog
from regate_adapters.backend.chat import ChatBackend
from regate_adapters.backend.upstream_client import UpstreamConfig
from regate_adapters.backend.upstreams import Upstreams
from regate_adapters.embeddings.cached import CachedEmbedder
from regate_adapters.files.readers.extract import WorkerExtractor
from regate_adapters.opa.batching import BatchingEngine
from regate_adapters.opa.caching import CachingEngine
from regate_adapters.opa.engine import OpaEngine
from regate_adapters.quota.local import LocalQuotaCounter
from regate_adapters.sealing.aead import AeadSealer
from regate_adapters.state.store import SqlStateStore
from regate_gateway.app import build_app
from regate_gateway.auth.authentication import open_verifier, shared_secret, token_rules
from regate_gateway.auth.authenticator import Authenticator
from regate_gateway.composition.opening import (
    Worker,
    opa_binary,
    open_blobs,
    open_policy,
    open_vector_engine,
    row_schemas_in,
    sealing_secret,
    state_url,
)
from regate_gateway.composition.services import Explaining, Services
from regate_gateway.config.settings import EmbeddingModel, Settings, Vector
from regate_gateway.http.cors import CrossOrigin
from regate_gateway.http.middleware import Edge
from regate_gateway.telemetry.metrics import Admissions, Metrics, Watched
from regate_gateway.workbench.check.entrypoints import asked_rules
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.authz.lists import Listings
from regate_orchestrator.conversations import ConversationWriter
from regate_orchestrator.documents.attachments import Attachments
from regate_orchestrator.documents.file_text import FileReader
from regate_orchestrator.documents.ingestion import WORKERS, Ingestion
from regate_orchestrator.documents.upload_parts import ChunkedUploads
from regate_orchestrator.documents.uploads import FileUploads
from regate_orchestrator.errors import ConfigurationError, PolicyUnavailable
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.maintenance.garbage_collection import FileGarbage, GarbageCollector
from regate_orchestrator.maintenance.membership import Membership
from regate_orchestrator.maintenance.schedule import collectors_of
from regate_orchestrator.maintenance.vector_garbage import VectorGarbage
from regate_orchestrator.ports import Embedder, PolicyEngine, StateStore
from regate_orchestrator.quota.metering import Quotas
from regate_orchestrator.quota.storage import Storage
from regate_orchestrator.responses.background import BackgroundRuns
from regate_orchestrator.responses.context.authorizing import Authorizer
from regate_orchestrator.responses.context.gate import Gate
from regate_orchestrator.responses.driver import LoopPorts
from regate_orchestrator.responses.message_parts import MessageParts
from regate_orchestrator.responses.request import Limits
from regate_orchestrator.retrieval.embedding import EmbeddingModels
from regate_orchestrator.retrieval.engines import VectorEngines
from regate_orchestrator.retrieval.search import Retrieval
from regate_orchestrator.routing import QUALITIES
from regate_orchestrator.values import Clock, wall_clock

_log = logging.getLogger("regate.gateway")

_PLANS_REMEMBERED: Final = 4_096


@dataclass(frozen=True, slots=True)
class Opened:
    """Services that are ready, and what must run in the background for as long as they are used."""

    services: Services
    workers: tuple[Worker, ...]


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often a gateway does what it does by itself, in seconds. Its presence is renewed several
    times within `lease_s`.
    """

    lease_s: int = 60
    renew_s: float = 15.0
    sweep_s: float = 60.0


class Gateway:
    """The whole gateway as one ASGI application: it opens at the server's startup and closes at its shutdown.

    `services` is there between the two, for the demonstration and for operators' tools in the same process.
    """

    def __init__(self, settings: Settings, metrics: Metrics, clock: Clock, rhythm: Rhythm) -> None:
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
                opened = await open_services(
                    stack, self._settings, self._metrics, clock=self._clock, rhythm=self._rhythm
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
    settings: Settings, *, clock: Clock = wall_clock, rhythm: Rhythm = Rhythm()
) -> tuple[ASGIApp, Gateway]:
    """Return the application with its edge, and the gateway inside it. By the clock rows are made and
    expire, and nothing else.
    """
    metrics = Metrics()
    gateway = Gateway(settings, metrics, clock, rhythm)
    cross_origin = CrossOrigin(settings.listen.cors_origins)
    return Edge(
        gateway, access_log=settings.telemetry.access_log, metrics=metrics, cross_origin=cross_origin
    ), gateway


async def open_services(
    stack: AsyncExitStack,
    settings: Settings,
    metrics: Metrics,
    *,
    clock: Clock = wall_clock,
    rhythm: Rhythm = Rhythm(),
) -> Opened:
    """Return the services, opened on the stack and counting in `metrics`. Raises `ConfigurationError`
    when anything cannot be used as configured.
    """
    _starting("reading and checking the policies")
    policy = await open_policy(stack, settings)
    schemas = row_schemas_in(policy.directory)
    opa = await stack.enter_async_context(
        OpaEngine(
            policy.address,
            schemas=schemas,
            deadline_s=settings.opa.timeout_ms / 1000,
            rules=asked_rules(),
            gate=policy.gate,
        )
    )
    asked, shadowing = await _shadowed(stack, settings, BatchingEngine(opa))
    engine = CachingEngine(
        asked, seconds=settings.opa.cache_s, entries=_PLANS_REMEMBERED, decision_attributes=QUALITIES
    )
    audit = await stack.enter_async_context(
        SegmentedAuditLog.open(settings.audit.path, on_failure=settings.audit.on_failure)
    )
    _starting("opening the state store")
    setting, url = state_url(settings)
    state = await stack.enter_async_context(SqlStateStore.open(url, setting=setting, clock=clock))
    upstreams = await stack.enter_async_context(Upstreams(upstream_configs(settings)))
    upstreams.discover()
    _starting("opening the vector engines")
    vectors = await _vectors(stack, settings.vector, schemas["chunk"], state)
    _starting("loading the embedding models")
    models = await _models(stack, settings)
    _starting("opening the file storage")
    blobs = await open_blobs(stack, settings.files)
    extractor = await stack.enter_async_context(WorkerExtractor())
    verifier = await stack.enter_async_context(open_verifier(settings))
    enforcer = Enforcer(engine, audit, schemas, meter=metrics)
    retrieval = Retrieval(
        enforcer=enforcer,
        state=state,
        vectors=vectors,
        models=models,
        store_schema=schemas["store"],
        post_filtered=frozenset(
            name for name, store in settings.vector.stores.items() if store.on_inexpressible == "gate"
        ),
        clock=clock,
        meter=metrics,
    )
    listings = Listings(enforcer)
    ingestion = Ingestion(state=state, blobs=blobs, extractor=extractor, models=models, vectors=vectors)
    attachments = Attachments(
        enforcer=enforcer,
        state=state,
        vectors=vectors,
        models=models,
        file_schema=schemas["file"],
        wake=ingestion.wake,
        clock=clock,
    )
    sealer = AeadSealer(sealing_secret(settings).reveal().encode())
    parts = MessageParts(FileReader(blobs, extractor))
    gate = Gate(enforcer, state, retrieval, schemas["file"])
    loop = LoopPorts(
        enforcer=enforcer,
        state=state,
        retrieval=retrieval,
        gate=gate,
        authorizer=Authorizer(enforcer, gate, retrieval, upstreams, sealer, parts),
        sealer=sealer,
        limits=Limits(settings.tools.max_rounds, settings.tools.max_tool_calls),
    )
    background = BackgroundRuns(loop, most=settings.tools.max_background)
    membership = Membership(state.membership, lease_s=rhythm.lease_s, renew_s=rhythm.renew_s)
    swept = FileGarbage(
        files=state.files, orphaned_blobs=state.orphaned_blobs, blobs=blobs, vectors=vectors, audit=audit
    )
    swept_stores = VectorGarbage(
        stores=state.vector_stores,
        orphaned_chunks=state.orphaned_chunks,
        vectors=vectors,
        audit=audit,
        clock=clock,
    )
    garbage_collector = GarbageCollector(
        collectors_of(state, swept, swept_stores, membership, clock), every_s=rhythm.sweep_s
    )
    metrics.watch(
        Watched(engine, Admissions(retrieval, listings), audit, upstreams, garbage_collector, swept_stores)
    )
    files = FileUploads(
        enforcer=enforcer,
        files=state.files,
        orphaned_blobs=state.orphaned_blobs,
        blobs=blobs,
        most_bytes=settings.listen.max_file_bytes,
        clock=clock,
    )
    services = Services(
        settings=settings,
        authenticator=Authenticator(verifier, enforcer, anonymous=settings.auth.anonymous),
        enforcer=enforcer,
        state=state,
        blobs=blobs,
        files=files,
        chunked_uploads=ChunkedUploads(uploads=state.uploads, files=files, blobs=blobs, clock=clock),
        vectors=vectors,
        models=models,
        retrieval=retrieval,
        listings=listings,
        attachments=attachments,
        upstreams=upstreams,
        loop=loop,
        backend=ChatBackend(upstreams),
        parts=parts,
        conversation_writer=ConversationWriter(enforcer, state.items, gate, sealer),
        background=background,
        quotas=Quotas(LocalQuotaCounter()),
        storage=Storage(enforcer, state.stored_bytes),
        schemas=schemas,
        policy_problem=lambda: policy.problem() or opa.problem,
        explaining=_explaining(settings, state, schemas, opa, policy.directory),
        metrics=metrics,
        clock=clock,
    )
    stack.push_async_callback(membership.end)
    resumed, interrupted = await ingestion.resume(), await membership.begin()
    if resumed or interrupted:
        _log.warning(
            "resumed",
            extra={"detail": f"{resumed} attachments to finish, {interrupted} responses were interrupted"},
        )
    if settings.state.sealing_key_env is None and (others := await state.membership.others_present()):
        detail = (
            "state.sealing_key_env is not set, so no gateway can open what another sealed for a client "
            "(encrypted_content)"
        )
        _log.warning("sealing_key_not_shared", extra={"count": others, "detail": detail})
    return Opened(
        services,
        (
            *policy.workers,
            *shadowing,
            background.work,
            membership.work,
            garbage_collector.work,
            *[ingestion.work] * WORKERS,
        ),
    )


def _starting(what: str) -> None:
    """Say what the start is at: on a slow machine, or with a database far away, it may take a while."""
    _log.info("starting", extra={"detail": what})


async def _shadowed(
    stack: AsyncExitStack, settings: Settings, live: PolicyEngine
) -> tuple[PolicyEngine, tuple[Worker, ...]]:
    """Return the engine to ask, with the candidate in its shadow if there is one, and what keeps the
    candidate running.

    A candidate that does not run is logged and left out: it must never keep the gateway from serving.
    """
    directory = settings.opa.shadow
    if directory is None:
        return live, ()
    from regate_adapters.opa.server.process import ManagedOpa
    from regate_adapters.opa.shadowing import ShadowingEngine, unharming
    from regate_gateway.workbench.replay.engine import row_schemas

    try:
        schemas = row_schemas(directory)  # its own: it may know other fields
        managed = await stack.enter_async_context(ManagedOpa(directory, opa=opa_binary(settings)))
    except (ConfigurationError, OSError) as error:
        _log.error("shadow_not_started", extra={"cause": str(error)})
        return live, ()
    candidate = await stack.enter_async_context(OpaEngine(managed.address, schemas=schemas))
    shadowing = ShadowingEngine(
        live, BatchingEngine(candidate), report=settings.data_dir / "shadow" / "flips.jsonl"
    )
    return shadowing, (unharming(managed.watch), unharming(shadowing.work))


def _explaining(
    settings: Settings, state: StateStore, schemas: Mapping[str, RowSchema], opa: OpaEngine, policies: Path
) -> Explaining:
    """Return what explains decisions: with rules and lines where OPA is ours, as a remote OPA's
    policies are not at hand.
    """
    from regate_gateway.workbench.explain.recorded import AuditExplainer
    from regate_gateway.workbench.explain.trace import Tracer

    tracer = None if settings.opa.mode == "remote" else Tracer(opa_binary(settings), policies)
    return AuditExplainer(settings.audit.path, state, schemas, opa, tracer)


def upstream_configs(settings: Settings) -> list[UpstreamConfig]:
    """Return the backends, with their keys. Raises `ConfigurationError` when the variable of one is
    not set.
    """
    return [
        UpstreamConfig(
            name=upstream.name,
            base_url=upstream.base_url,
            api_key=_api_key(upstream.name, upstream.api_key_env),
            models=upstream.models,
            timeout_s=upstream.timeout_s,
            capabilities=upstream.capabilities,
            aliases=upstream.aliases,
            by_policy=upstream.by_policy,
            fallback_for=upstream.fallback_for,
            show_errors=upstream.show_errors,
        )
        for upstream in settings.upstreams
    ]


def _api_key(upstream: str, variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise ConfigurationError(
            f"upstreams.{upstream}.api_key_env: the environment variable {variable} is not set"
        )
    return key


async def _vectors(
    stack: AsyncExitStack, vector: Vector, schema: RowSchema, state: StateStore
) -> VectorEngines:
    """Return all configured engines. Stores of a version that had one engine only are recorded as
    being in the default one.
    """
    engines = {
        name: await open_vector_engine(stack, name, store, schema) for name, store in vector.stores.items()
    }
    if placed := await state.vector_stores.place(engine=vector.default):
        _log.warning(
            "stores_placed",
            extra={"detail": f"{placed} vector stores of an earlier version are in {vector.default}"},
        )
    return VectorEngines(engines, default=vector.default, placed=state.vector_stores.engine_of)


async def _models(stack: AsyncExitStack, settings: Settings) -> EmbeddingModels:
    chosen = (settings.embeddings, *settings.embeddings.also)
    embedders = [await open_embedder(stack, settings, one) for one in chosen]
    limits = {
        embedder.name: one.max_tokens
        for embedder, one in zip(embedders, chosen, strict=True)
        if one.max_tokens is not None
    }
    return EmbeddingModels(*embedders, limits=limits)


async def open_embedder(stack: AsyncExitStack, settings: Settings, chosen: EmbeddingModel) -> Embedder:
    """Return the model that makes vectors, opened on the stack. Raises `ConfigurationError`."""
    if chosen.kind == "upstream":
        from regate_adapters.embeddings.upstream import UpstreamEmbedder

        (config,) = (one for one in upstream_configs(settings) if one.name == chosen.upstream)
        assert chosen.model is not None  # noqa: S101 — INVARIANT: settings demand it with kind upstream
        embedder = UpstreamEmbedder(
            config.base_url, chosen.model, api_key=config.api_key, most_tokens=chosen.max_tokens
        )
        return CachedEmbedder(await stack.enter_async_context(embedder))
    from regate_adapters.embeddings.wordllama import WordLlamaEmbedder

    return CachedEmbedder(WordLlamaEmbedder())


def read_audit(
    settings: Settings, *, request_id: str | None, response_id: str | None
) -> Iterator[dict[str, Any]]:
    """Yield the audit records of a request or a response, or all, oldest first."""
    from regate_adapters.audit.reading import read

    return read(settings.audit.path, request_id=request_id, response_id=response_id)


def mint_token(
    settings: Settings, *, subject: str, tenant: str, teams: Sequence[str] = (), roles: Sequence[str] = ()
) -> str:
    """Return a development token that a gateway with these settings accepts. Raises
    `ConfigurationError` where it holds no secret.
    """
    from regate_adapters.identity.jwt import mint_development_token

    rules = token_rules(settings)
    secret = shared_secret(settings).reveal().encode()
    return mint_development_token(
        secret,
        issuer=rules.issuer,
        audience=rules.audience,
        subject=subject,
        tenant=tenant,
        ttl_s=3600,
        teams=teams,
        roles=roles,
    )
