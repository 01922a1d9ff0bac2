"""`regate doctor`: connects once to everything that is configured, and says of each in one line what is there
or why it cannot be used.

Nothing is made, changed or served: databases are only looked at, and a managed OPA is started for the moment.
Not what can be known without connecting; that is `composition/checking.py`, which is asked first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Final, TypeAlias

import click
import orjson

from regate_adapters.vector.kind import EngineSettings
from regate_adapters.vector.registry import KINDS
from regate_gateway.auth.authentication import key_source
from regate_gateway.auth.opening import kubernetes_verifier
from regate_gateway.composition.auditing import examine_export
from regate_gateway.composition.checking import faults
from regate_gateway.composition.opening import configured_engine, opa_binary, open_blobs, open_policy
from regate_gateway.composition.outside.guards import open_provider
from regate_gateway.composition.outside.tracing import examine_traces
from regate_gateway.composition.outside.upstreams import open_embedder, upstream_configs
from regate_gateway.composition.sharing import redis_url
from regate_gateway.config.auth_settings import (
    ApiKeyProvider,
    JwtProvider,
    KubernetesProvider,
    MtlsProvider,
    Provider,
)
from regate_gateway.config.guard_settings import GuardEntry
from regate_gateway.config.retrieval_settings import EmbeddingModel
from regate_gateway.config.settings import Settings
from regate_gateway.config.state_settings import state_url
from regate_gateway.config.upstream_settings import Upstream
from regate_orchestrator.errors import ConfigurationError, RegateError, naming

_DEADLINE_SECONDS: Final = 30.0

Examination: TypeAlias = Callable[[], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What became of one thing: its setting, whether it can be used, what is there or what is wrong,
    and how long it took.
    """

    name: str
    ok: bool
    says: str
    ms: int


async def report(settings: Settings, *, as_json: bool) -> int:
    """Print the diagnoses, a line each as they come, or one JSON object at the end; return the exit
    code: 0 when all can be used.
    """
    found = []
    async for diagnosis in diagnoses(settings):
        found.append(diagnosis)
        if not as_json:
            click.echo(f"{'ok  ' if diagnosis.ok else 'FAIL'}  {diagnosis.name:<24} {diagnosis.says}")
    ok = all(diagnosis.ok for diagnosis in found)
    if as_json:
        click.echo(
            orjson.dumps(
                {"ok": ok, "diagnoses": [asdict(one) for one in found]}, option=orjson.OPT_INDENT_2
            ).decode()
        )
    return 0 if ok else 1


async def diagnoses(settings: Settings) -> AsyncIterator[Diagnosis]:
    """Yield a diagnosis of each thing that is configured, in the order of the settings. What it is
    about may hold hosts, never a secret.
    """
    found = await asyncio.to_thread(faults, settings)
    yield Diagnosis("configuration", not found, "; ".join(found) or "accepted", 0)
    examinations = list(_examinations(settings))
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(_examined(name, examination)) for name, examination in examinations]
        for task in running:
            yield await task


async def _examined(name: str, examination: Examination) -> Diagnosis:
    began = time.monotonic()
    try:
        async with asyncio.timeout(_DEADLINE_SECONDS):
            ok, says = True, await examination()
    except TimeoutError:
        ok, says = False, f"no answer within {_DEADLINE_SECONDS:g} s"
    except RegateError as error:
        ok, says = False, str(getattr(error, "detail", "") or error.message)
    return Diagnosis(name, ok, " ".join(says.split()), round((time.monotonic() - began) * 1000))


def _examinations(settings: Settings) -> Iterator[tuple[str, Examination]]:
    for upstream in settings.upstreams:
        yield f"upstreams.{upstream.name}", partial(_upstream, settings, upstream)
    for entry in settings.auth.entries:
        yield from _identity(settings.auth.place_of(entry), entry)
    yield "opa", lambda: _opa(settings)
    yield "state", lambda: _state(settings)
    if settings.redis.is_used:
        yield "redis", lambda: _redis(settings)
    for name, engine in settings.vector.stores.items():
        yield f"vector.stores.{name}", partial(_engine, name, engine)
    yield "files", lambda: _files(settings)
    for model in (settings.embeddings, *settings.embeddings.also):
        if model.kind == "upstream":
            yield f"embeddings ({model.model})", partial(_embeddings, settings, model)
    for guard in settings.guards.providers:
        yield f"guards.providers.{guard.name}", partial(_guard, guard)
    for export in settings.audit.export:
        yield f"audit.export.{export.name}", partial(examine_export, export)
    if settings.telemetry.traces is not None:
        yield "telemetry.traces", partial(examine_traces, settings.telemetry.traces)


async def _upstream(settings: Settings, upstream: Upstream) -> str:
    from regate_adapters.backend.upstreams import Upstreams

    (config,) = (one for one in upstream_configs(settings) if one.name == upstream.name)
    alone = replace(
        config, models=None, aliases={}, by_policy=False, fallback_for=()
    )  # so that it is asked what it lists
    async with Upstreams([alone]) as upstreams:
        listed = {str(entry["id"]) for entry in await upstreams.model_entries()}
    named = {*(upstream.models or ()), *upstream.aliases.values()} - {*upstream.aliases}
    unlisted = sorted(named - listed)
    said = f"lists {len(listed)} models" if len(listed) != 1 else f"lists one model, {next(iter(listed))}"
    return said + (f"; not among them: {', '.join(unlisted)}" if unlisted else "")


def _identity(place: str, entry: Provider) -> Iterator[tuple[str, Examination]]:
    match entry:
        case JwtProvider():
            if entry.jwks_url is not None or entry.discovery:
                setting = "discovery" if entry.discovery else "jwks_url"
                yield f"{place}.{setting}", partial(_jwks, place, entry)
        case KubernetesProvider():
            yield f"{place}.api_server", partial(_kubernetes, place, entry)
        case ApiKeyProvider() | MtlsProvider():
            pass  # in the state database, which is examined; and with each client


async def _jwks(place: str, entry: JwtProvider) -> str:
    from regate_adapters.identity.jwks import JwksUrl

    keys, where = key_source(entry, place=place), entry.jwks_url or entry.issuer
    assert isinstance(keys, JwksUrl)  # noqa: S101 — INVARIANT: asked only where a URL is configured
    async with keys:
        if not keys.ready:
            raise ConfigurationError(f"{where} gave no usable keys: {keys.problem}")
        return f"{where} gave {keys.count} usable keys"


async def _kubernetes(place: str, entry: KubernetesProvider) -> str:
    async with kubernetes_verifier(entry, place=place) as verifier:
        return await verifier.examine()


async def _opa(settings: Settings) -> str:
    async with AsyncExitStack() as stack:
        opened = await open_policy(stack, settings)
        revision = await opened.check()
    kind = "remote OPA" if settings.opa.mode == "remote" else f"OPA {opa_binary(settings)}"
    return f"{kind}, policy {revision}"


async def _state(settings: Settings) -> str:
    from regate_adapters.state.database import examine

    setting, url = state_url(settings.state)
    return await examine(url, setting=setting, row_security=settings.state.row_security)


async def _redis(settings: Settings) -> str:
    from regate_adapters.redis import examine

    setting, url = redis_url(settings)
    with naming(setting):
        return await examine(url)


async def _engine(name: str, engine: EngineSettings) -> str:
    return await KINDS[engine.kind].examine(configured_engine(name, engine))


async def _files(settings: Settings) -> str:
    if settings.files.kind == "disk":
        return f"the directory {settings.files.path}"
    async with AsyncExitStack() as stack:
        await open_blobs(stack, settings.files)
    return f"the bucket {settings.files.bucket}"


async def _embeddings(settings: Settings, model: EmbeddingModel) -> str:
    async with AsyncExitStack() as stack:
        embedder = await open_embedder(stack, settings, model)
        return f"vectors of {await embedder.dimensions()} dimensions"


async def _guard(entry: GuardEntry) -> str:
    async with AsyncExitStack() as stack:
        provider = await open_provider(stack, entry)
        (findings,) = await provider.look(["Hello"], step=entry.steps[0])
    named = sorted({*findings.scores, *findings.labels})
    return f"looks at texts; of 'Hello' it says {', '.join(named) if named else 'nothing'}"
