"""Upstreams: one pool of kept connections for each configured backend, and requests of our own making over them.

What leaves here is our body and our headers with the upstream's own key; nothing of the client's request is passed on, and an answer that
is not 2xx becomes an `UpstreamError` in our words (`failures.py`). Not what the answers mean: that is `chat.py`, and the routes that pass
bytes through.
"""

from __future__ import annotations

import asyncio
import errno
import io
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import aiohttp
import orjson
from yarl import URL

from regate_adapters.backend.catalogue import ModelCatalogue, ModelEntry
from regate_adapters.backend.failures import MOST_DETAIL, TRANSPORT_ERRORS, misunderstood, refused, unreached
from regate_orchestrator.errors import ConfigurationError, UpstreamError
from regate_orchestrator.ports import UpstreamTraits
from regate_orchestrator.values import Clock, JsonObject

_CONNECT_S: Final = 5.0
_LISTING_S: Final = 5.0
_ERROR_TEXT_S: Final = 2.0
_RETRY_PAUSE_S: Final = 0.1
_MOST_CONNECTIONS: Final = 1_024
_KEEP_ALIVE_S: Final = 4.0  # below the 5 s after which uvicorn (and with it vLLM) closes, so that no request meets a closing connection
_MOST_LISTING: Final = 4 * 1024 * 1024
_MOST_MODELS: Final = 10_000
_LARGE_BODY: Final = 512 * 1024
_PATH: Final = re.compile(r"(/[a-z_]+){1,3}")
_MODEL_ID: Final = re.compile(r"[!-~]{1,256}")
_PASSED_HEADERS: Final = ("content-length",)

Pause = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class UpstreamConfig:
    """A backend that speaks the OpenAI API. `models` None means that it lists them itself; `timeout_s` is the longest wait for its next bytes."""

    name: str
    base_url: str
    api_key: str | None = field(repr=False)
    models: tuple[str, ...] | None
    timeout_s: float
    traits: UpstreamTraits = field(default_factory=UpstreamTraits)


class UpstreamResponse:
    """A 2xx answer whose body is still to be read. Valid only within the context that made it."""

    __slots__ = ("_response", "_upstream", "content_type", "headers", "status")

    def __init__(self, upstream: str, response: aiohttp.ClientResponse) -> None:
        self._upstream = upstream
        self._response = response
        self.status = response.status
        self.content_type = response.headers.get("Content-Type", "")
        self.headers: Mapping[str, str] = {name: response.headers[name] for name in _PASSED_HEADERS if name in response.headers}

    @property
    def media_type(self) -> str:
        """Return the content type without its parameters, in lower case."""
        return self.content_type.partition(";")[0].strip().lower()

    def chunks(self) -> AsyncIterator[bytes]:
        """Return the body's bytes as they come. Raises `UpstreamError` when they break off or stay away; reads no faster than it is asked to."""
        return _Chunks(self._upstream, self._response.content)

    async def read(self, *, limit: int) -> bytes:
        """Return the whole body. Raises `UpstreamError` when it is larger than the limit, breaks off or stays away."""
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
            if len(body) > limit:
                raise misunderstood(self._upstream, f"a body of more than {limit} bytes")
        return bytes(body)

    async def settle(self, *, within_s: float) -> None:
        """Read on to the end of a body of which nothing more is wanted, so that its connection can be used again; waits no longer than said."""
        try:
            async with asyncio.timeout(within_s):
                while await self._response.content.readany():
                    pass
        except TRANSPORT_ERRORS:
            return  # the connection is closed instead


class Upstreams:
    """The configured backends. Must be entered, and must be left only when no request uses it any more."""

    def __init__(self, configs: Sequence[UpstreamConfig], *, clock: Clock = time.monotonic, pause: Pause = asyncio.sleep) -> None:
        check_configs(configs)
        self._links = {config.name: _Link(config, pause) for config in configs}
        self._traits = {config.name: config.traits for config in configs}
        listed = {config.name: _configured_entries(config) for config in configs}
        self._catalogue = ModelCatalogue(listed, lambda name: self._links[name].models(), clock=clock)

    async def __aenter__(self) -> Self:
        for link in self._links.values():
            link.start()
        await self._catalogue.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            await self._catalogue.__aexit__()
        finally:
            for link in self._links.values():
                await link.stop()

    async def upstream_for(self, model: str) -> str | None:
        """Return the name of the upstream that serves the model, or None when none does. Raises `UpstreamError` when that is not known."""
        return await self._catalogue.upstream_for(model)

    def traits(self, upstream: str) -> UpstreamTraits:
        """Return what the operator says the upstream can take."""
        return self._traits[upstream]

    async def catalogue(self) -> Mapping[str, str]:
        """Return the name of the upstream of every model. Raises `UpstreamError` when no upstream has ever said what it serves."""
        return {model: upstream for model, (upstream, _) in (await self._catalogue.all()).items()}

    async def model_entries(self) -> list[JsonObject]:
        """Return every model in the API's shape. Raises as `catalogue` does."""
        return [entry.as_json() for _, entry in (await self._catalogue.all()).values()]

    async def check(self) -> None:
        """Raise the `UpstreamError` of the last upstream tried when not one of them answers. For readiness; asks for the models' list."""
        last: UpstreamError | None = None
        for link in self._links.values():
            try:
                await link.models()
            except UpstreamError as error:
                last = error
            else:
                return
        if last is not None:
            raise last

    @asynccontextmanager
    async def open(self, upstream: str, path: str, body: bytes, *, accept_stream: bool) -> AsyncIterator[UpstreamResponse]:
        """Send a JSON body to a path below the upstream's base URL, and enter with its answer once that is 2xx.

        Raises `UpstreamError` for any other answer and for none. Leaving before the body's end closes the connection at once, which is how
        an upstream learns that nobody listens any more.
        """
        link = self._links[upstream]
        response = await link.post(path, body, accept_stream=accept_stream)
        try:
            yield UpstreamResponse(upstream, response)
        finally:
            _let_go(response)


class _Chunks:
    """The pieces of a body. A class, not a generator: one that is abandoned half-way needs no closing of its own."""

    __slots__ = ("_content", "_upstream")

    def __init__(self, upstream: str, content: aiohttp.StreamReader) -> None:
        self._upstream = upstream
        self._content = content

    def __aiter__(self) -> _Chunks:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._content.readany()
        except TRANSPORT_ERRORS as error:
            raise unreached(self._upstream, error) from error
        if not chunk:
            raise StopAsyncIteration
        return chunk


class _Link:
    """One upstream's pool. No cookies, redirects, proxies from the environment, or decompression."""

    def __init__(self, config: UpstreamConfig, pause: Pause) -> None:
        self._config = config
        self._pause = pause
        self._session: aiohttp.ClientSession | None = None
        self._urls: dict[str, URL] = {}
        key = {} if config.api_key is None else {"Authorization": f"Bearer {config.api_key}"}
        self._headers = {"User-Agent": "regate", "Accept-Encoding": "identity", "Accept": "application/json", **key}
        self._json_headers = {**self._headers, "Content-Type": "application/json"}
        self._stream_headers = {**self._json_headers, "Accept": "text/event-stream, application/json"}

    def start(self) -> None:
        """Make the pool; connects to nothing yet."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_MOST_CONNECTIONS, keepalive_timeout=_KEEP_ALIVE_S),
            timeout=aiohttp.ClientTimeout(total=None, connect=_CONNECT_S, sock_connect=_CONNECT_S, sock_read=self._config.timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
        )

    async def stop(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def post(self, path: str, body: bytes, *, accept_stream: bool) -> aiohttp.ClientResponse:
        """Return a 2xx answer whose body is still to be read, or raise `UpstreamError`."""
        headers = self._stream_headers if accept_stream else self._json_headers
        try:
            # The total covers what aiohttp has no deadline for: an upstream that accepts the connection but not our body.
            async with asyncio.timeout(_CONNECT_S + self._config.timeout_s):
                response = await self._send(self._url(path), body, headers)
        except TRANSPORT_ERRORS as error:
            raise unreached(self._config.name, error) from error
        try:
            await self._require_success(response)
        except BaseException:
            _let_go(response)
            raise
        return response

    async def models(self) -> Sequence[ModelEntry]:
        """Return what the upstream lists. Raises `UpstreamError`."""
        name = self._config.name
        response: aiohttp.ClientResponse | None = None
        try:
            async with asyncio.timeout(_LISTING_S):
                response = await self._must_session.get(self._url("/models"), headers=self._headers, allow_redirects=False)
                await self._require_success(response)
                body = await UpstreamResponse(name, response).read(limit=_MOST_LISTING)
        except TRANSPORT_ERRORS as error:
            raise unreached(name, error) from error
        finally:
            if response is not None:
                _let_go(response)
        return _listed_entries(name, body)

    @property
    def _must_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise UpstreamError("The backend cannot be reached.", detail=f"{self._config.name}: the pool is closed")
        return self._session

    def _url(self, path: str) -> URL:
        if path not in self._urls:
            if not _PATH.fullmatch(path):
                raise ValueError(f"not a path of ours: {path!r}")
            self._urls[path] = URL(self._config.base_url.rstrip("/") + path)
        return self._urls[path]

    async def _send(self, url: URL, body: bytes, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        # A large body is written piecewise, so that the event loop goes on serving others meanwhile.
        def data() -> bytes | io.BytesIO:
            return body if len(body) <= _LARGE_BODY else io.BytesIO(body)

        try:
            return await self._must_session.post(url, data=data(), headers=headers, allow_redirects=False)
        except aiohttp.ClientConnectorError as error:
            if error.os_error.errno != errno.ECONNREFUSED:
                raise
        # The one case in which certainly nothing was sent: no connection came about. A restarting backend is back a moment later.
        await self._pause(_RETRY_PAUSE_S)
        return await self._must_session.post(url, data=data(), headers=headers, allow_redirects=False)

    async def _require_success(self, response: aiohttp.ClientResponse) -> None:
        if not 200 <= response.status < 300:
            text = await self._error_text(response)
            raise refused(self._config.name, response.status, retry_after=response.headers.get("Retry-After"), text=text)
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise misunderstood(self._config.name, "an encoding that was not asked for")

    async def _error_text(self, response: aiohttp.ClientResponse) -> str:
        text = bytearray()
        try:
            async with asyncio.timeout(_ERROR_TEXT_S):
                while len(text) < 2 * MOST_DETAIL and (chunk := await response.content.readany()):
                    text += chunk
        except TRANSPORT_ERRORS:
            text += b" (broken off)"
        words = text[: 2 * MOST_DETAIL].decode("utf-8", "replace")
        # Some upstreams quote the key they refuse.
        return words if self._config.api_key is None else words.replace(self._config.api_key, "***")


def _let_go(response: aiohttp.ClientResponse) -> None:
    """Close the connection at once, unless the body was read to its end and the connection is back in the pool already."""
    connection = response.connection
    if connection is None:
        return
    if connection.transport is not None:
        connection.transport.abort()  # a plain close would first wait for the peer to take what we still have to send
    response.close()


def check_configs(configs: Sequence[UpstreamConfig]) -> None:
    """Raise `ConfigurationError` unless names are unique, addresses plain http or https, keys fit a header, and deadlines are positive."""
    names = [config.name for config in configs]
    if len(set(names)) != len(names):
        raise ConfigurationError("upstreams: two entries have the same name")
    for config in configs:
        place = f"upstreams.{config.name}"
        parts = urlsplit(config.base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
            raise ConfigurationError(f"{place}.base_url must be an http or https address with a host, without user name, query or fragment")
        if config.api_key is not None and not re.fullmatch(r"[!-~]+", config.api_key):
            raise ConfigurationError(f"{place}: the key must be plain ASCII without blanks")
        if not 0 < config.timeout_s < float("inf"):
            raise ConfigurationError(f"{place}.timeout_s must be a positive number of seconds")


def _configured_entries(config: UpstreamConfig) -> tuple[ModelEntry, ...] | None:
    return None if config.models is None else tuple(ModelEntry(model, 0, config.name) for model in config.models)


def _listed_entries(upstream: str, body: bytes) -> tuple[ModelEntry, ...]:
    """Return the models of a listing; entries without a plain id are left out. Raises `UpstreamError` for what is no listing."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise misunderstood(upstream, "its list of models is not JSON") from error
    # Ollama says `null` when it has none.
    data = document.get("data", 0) if isinstance(document, dict) else 0
    if not isinstance(data, list | None):
        raise misunderstood(upstream, "its list of models has no `data`")
    models = (entry for entry in (data or ())[:_MOST_MODELS] if isinstance(entry, dict))
    return tuple(_entry(upstream, model) for model in models if isinstance(model.get("id"), str) and _MODEL_ID.fullmatch(model["id"]))


def _entry(upstream: str, model: Mapping[str, object]) -> ModelEntry:
    created, owner = model.get("created"), model.get("owned_by")
    plain = isinstance(owner, str) and _MODEL_ID.fullmatch(owner) is not None
    return ModelEntry(
        id=str(model["id"]),
        created=created if isinstance(created, int) and not isinstance(created, bool) else 0,
        owned_by=str(owner) if plain else upstream,
    )
