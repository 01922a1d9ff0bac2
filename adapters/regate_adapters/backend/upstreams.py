"""Upstreams: the configured backends as one, by the names of models that clients use. Implements
`ports.Catalogue`.

Which connection a request goes over, and under which of the upstream's own names for the model. The bytes are
`upstream_client.py`'s; what the answers mean is `chat.py`'s, and that of the routes that pass bytes through.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import chain, repeat
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import orjson

from regate_adapters.backend.catalogue import CatalogueEntry, ModelCatalogue
from regate_adapters.backend.failures import Unsent
from regate_adapters.backend.health import Reach
from regate_adapters.backend.stream.passing import PassingAnswer, passing
from regate_adapters.backend.upstream_client import Pause, UpstreamClient, UpstreamConfig
from regate_adapters.backend.upstream_response import UpstreamResponse
from regate_adapters.backend.wording import Wording, mended
from regate_adapters.http_client.connection import Answer
from regate_orchestrator.errors import ConfigurationError, UpstreamError
from regate_orchestrator.ports import Serving
from regate_orchestrator.upstream_capabilities import UpstreamCapabilities
from regate_orchestrator.values import Clock, JsonObject

_log = logging.getLogger("regate.backend")

_TRIAL_AFTER_SECONDS: Final = (0.5, 1.0, 2.0, 4.0)
_TRIAL_EVERY_SECONDS: Final = 5.0
_MAX_MENDED: Final = 2
_CHECK_SECONDS: Final = 2.5
"""How long readiness waits for any upstream: its own deadline is three seconds."""
_OTHERS_SECONDS: Final = 0.4
"""How long readiness waits for the others once one has answered: probes may have a deadline of a second."""


class Upstreams:
    """The configured backends. Must be entered, and must be left only when no request uses it any more."""

    def __init__(
        self,
        configs: Sequence[UpstreamConfig],
        *,
        clock: Clock = time.monotonic,
        pause: Pause = asyncio.sleep,
    ) -> None:
        check_configs(configs)
        self._pause = pause
        self._capabilities = {config.name: config.capabilities for config in configs}
        self._wordings = {config.name: Wording(config.capabilities, config.aliases) for config in configs}
        self._clients = {
            config.name: UpstreamClient(config, clock=clock, pause=pause, on_trouble=self._try_again)
            for config in configs
        }
        entries = {config.name: _entry(config) for config in configs}
        self._catalogue = ModelCatalogue(entries, lambda name: self._clients[name].models(), clock=clock)
        self._group: asyncio.TaskGroup | None = None
        self._trials: dict[str, asyncio.Task[None]] = {}
        self._contacting: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        for client in self._clients.values():
            client.start()
        self._group = await asyncio.TaskGroup().__aenter__()
        await self._catalogue.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._catalogue.__aexit__()
            group, self._group = self._group, None
            for task in (*self._trials.values(), *self._contacting.values()):
                task.cancel()
            if group is not None:
                await group.__aexit__(None, None, None)
        finally:
            for client in self._clients.values():
                await client.stop()

    def discover(self) -> None:
        """Begin to ask upstreams for their models: nobody need wait for it then, and what is wrong
        with an address or a key is told at start.
        """
        self._catalogue.discover()

    async def serving(self, model: str, *, by: str | None = None) -> Serving | None:
        """Return who serves the model, or None when none does; see `ports.Catalogue.serving`. Raises
        `UpstreamError` when that is not known.
        """
        return await self._catalogue.serving(model, by=by)

    def capabilities(self, upstream: str) -> UpstreamCapabilities:
        """Return what the operator says the upstream can take."""
        return self._capabilities[upstream]

    @property
    def extra_fields(self) -> frozenset[str]:
        """Return the fields beyond the API's own that any upstream takes."""
        return frozenset().union(*(capabilities.extra_fields for capabilities in self._capabilities.values()))

    async def catalogue(self) -> Mapping[str, str]:
        """Return the name of the upstream of every model. Raises `UpstreamError` when no upstream has
        ever said what it serves.
        """
        return {model: upstream for model, (upstream, _) in (await self._catalogue.all()).items()}

    async def model_entries(self) -> list[JsonObject]:
        """Return every model in the API's shape, but for those of `reserved_entries`. Raises as
        `catalogue` does.
        """
        return [entry.as_json() for _, entry in (await self._catalogue.all()).values()]

    async def reserved_entries(self) -> list[tuple[JsonObject, frozenset[str]]]:
        """Return the models that are served only where policy says so, each with the upstreams that
        the policy may name for it.
        """
        return [
            (entry.as_json(), upstreams) for upstreams, entry in (await self._catalogue.reserved()).values()
        ]

    def reach(self) -> Mapping[str, Reach]:
        """Return for every upstream how its latest connection went."""
        return {name: client.health.reach for name, client in self._clients.items()}

    async def check(self) -> None:
        """Raise `UpstreamError` when not one upstream can be reached, or none has ever said what it serves.
        For readiness.

        Asks only upstreams of which nothing was heard for half a minute. One that hangs keeps nobody waiting
        for long once another has answered.
        """
        asked = self._catalogue.renew() | self._contacts()
        loop = asyncio.get_running_loop()
        until = loop.time() + _CHECK_SECONDS
        while asked and not self._one_answers and (left := until - loop.time()) > 0:
            _, asked = await asyncio.wait(asked, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if asked and self._one_answers:
            await asyncio.wait(asked, timeout=_OTHERS_SECONDS)
        self._catalogue.require_models()
        if self._clients and all(reach == "unreachable" for reach in self.reach().values()):
            raise UpstreamError(
                "The backend cannot be reached.", detail=f"none of {', '.join(self._clients)} can be reached"
            )

    @property
    def _one_answers(self) -> bool:
        """Whether a model is known, and an upstream was reached not long ago."""
        healths = [client.health for client in self._clients.values()]
        reached = any(not health.is_stale and health.reach != "unreachable" for health in healths)
        return reached and self._catalogue.has_models

    def _contacts(self) -> set[asyncio.Task[None]]:
        """Begin to contact the upstreams of which nothing was heard; return what is under way."""
        for name, client in self._clients.items():
            if self._group is not None and client.health.is_stale and name not in self._contacting:
                self._contacting[name] = self._group.create_task(self._contact(name))
        return set(self._contacting.values())

    async def _contact(self, name: str) -> None:
        try:
            await self._clients[name].contact()
        # An error that leaves this task would end the gateway
        except Exception:  # noqa: BLE001
            _log.exception("upstream_not_contacted", extra={"upstream": name})
        finally:
            del self._contacting[name]

    @asynccontextmanager
    async def open(
        self,
        upstream: str,
        path: str,
        payload: JsonObject,
        *,
        accept_stream: bool,
        alternates: Sequence[str] = (),
    ) -> AsyncIterator[UpstreamResponse]:
        """Send a request to a path below the upstream's base URL, and enter with its answer once that is 2xx.

        The payload's `model` is the name that clients use; an upstream is sent its own. Where certainly
        nothing was sent, the alternates are asked in their order, each once. Raises `UpstreamError` for any
        other answer and for none. Leaving before the body's end closes the connection at once, which is how
        an upstream learns that nobody listens any more.
        """
        # Sorting keeps the order among equals: whoever is known to be out of reach comes last.
        names = sorted((upstream, *alternates), key=lambda name: self._clients[name].health.is_open)
        client, response = await self._ask(names, path, payload, accept_stream=accept_stream)
        try:
            yield client.answered(response)
        finally:
            client.release(response)

    @asynccontextmanager
    async def pass_through(
        self, upstream: str, path: str, payload: JsonObject, *, streamed: bool, alternates: Sequence[str] = ()
    ) -> AsyncIterator[PassingAnswer]:
        """Send a request as `open` does, and enter with its answer once that is known to be one; see
        `backend/stream/passing.py`. Raises as `open` does.
        """
        member = "data" if path == "/embeddings" else "choices"
        async with self.open(
            upstream, path, payload, accept_stream=streamed, alternates=alternates
        ) as response:
            yield await passing(response, member=member, streamed=streamed)

    async def _ask(
        self, names: Sequence[str], path: str, payload: JsonObject, *, accept_stream: bool
    ) -> tuple[UpstreamClient, Answer]:
        for name, following in zip(names, [*names[1:], None], strict=True):
            client = self._clients[name]
            try:
                return client, await self._post(
                    client, path, payload, accept_stream=accept_stream, again=following is None
                )
            except Unsent as error:
                if following is None:
                    raise
                _log.warning(
                    "failed_over", extra={"upstream": name, "instead": following, "detail": error.detail}
                )
        raise AssertionError("there is at least one name")

    async def _post(
        self, client: UpstreamClient, path: str, payload: JsonObject, *, accept_stream: bool, again: bool
    ) -> Answer:
        """Return what the upstream answers to the request in its own words, which its refusal may have
        to teach us.
        """
        wording = self._wordings[client.name]
        capabilities = known = wording.capabilities(payload)
        for left in range(_MAX_MENDED, -1, -1):
            try:
                response = await client.post(
                    path, encode(wording.of(payload, capabilities)), accept_stream=accept_stream, again=again
                )
            except UpstreamError as refusal:
                other = mended(payload, capabilities, refusal) if left else None
                if other is None:
                    raise
                _log.warning("worded_otherwise", extra={"upstream": client.name, "detail": refusal.detail})
                capabilities = other
            else:
                if capabilities != known:
                    wording.keep(payload, capabilities)
                return response
        raise AssertionError("the last refusal is raised")

    def _try_again(self, name: str) -> None:
        """Begin to contact an upstream that is in trouble, unless that is under way."""
        if self._group is not None and name not in self._trials:
            self._trials[name] = self._group.create_task(self._contact_until_reached(name))

    async def _contact_until_reached(self, name: str) -> None:
        client = self._clients[name]
        try:
            for wait in chain(_TRIAL_AFTER_SECONDS, repeat(_TRIAL_EVERY_SECONDS)):
                await self._pause(wait)
                if client.health.in_trouble:
                    await client.contact()
                if not client.health.in_trouble:
                    return
        # An error that leaves this task would end the gateway; the circuit then closes by itself
        except Exception:  # noqa: BLE001
            _log.exception("upstream_not_contacted", extra={"upstream": name})
        finally:
            del self._trials[name]


def encode(payload: JsonObject) -> bytes:
    """Return the JSON text. Never NaN; numbers beyond 64 bits, which a client's schema may hold,
    stay exact.
    """
    try:
        return orjson.dumps(payload)
    except TypeError:
        return json.dumps(payload, allow_nan=False).encode()


def check_configs(configs: Sequence[UpstreamConfig]) -> None:
    """Raise `ConfigurationError` unless names are unique, addresses plain http or https, keys fit a
    header, and deadlines are positive.
    """
    names = [config.name for config in configs]
    if len(set(names)) != len(names):
        raise ConfigurationError("upstreams: two entries have the same name")
    for config in configs:
        place = f"upstreams.{config.name}"
        parts = urlsplit(config.base_url)
        if (
            parts.scheme not in {"http", "https"}
            or not parts.hostname
            or "@" in parts.netloc
            or parts.query
            or parts.fragment
        ):
            raise ConfigurationError(
                f"{place}.base_url must be an http or https address with a host, without user name, "
                "query or fragment"
            )
        if config.api_key is not None and not re.fullmatch(r"[!-~]+", config.api_key):
            raise ConfigurationError(f"{place}: the key must be plain ASCII without blanks")
        if not 0 < config.timeout_s < float("inf"):
            raise ConfigurationError(f"{place}.timeout_s must be a positive number of seconds")


def _entry(config: UpstreamConfig) -> CatalogueEntry:
    return CatalogueEntry(
        config.models, config.aliases, by_policy=config.by_policy, fallback_for=frozenset(config.fallback_for)
    )
