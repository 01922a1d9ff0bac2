"""One upstream's pool of kept connections, and requests of our own making over it.

What leaves here is our body and our headers with the upstream's own key; nothing of the client's request is
passed on, and an answer that is not 2xx becomes an `UpstreamError` in our words (`failures.py`). Not which
upstream is asked: that is `upstreams.py`.
"""

from __future__ import annotations

import asyncio
import errno
import io
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import aiohttp
from yarl import URL

from regate_adapters.backend.catalogue import ModelEntry
from regate_adapters.backend.failures import (
    DENIED,
    MAX_DETAIL,
    TRANSPORT_ERRORS,
    UNCONNECTED,
    circuit_open,
    misunderstood,
    refused,
    unreached,
)
from regate_adapters.backend.health import Health, Trouble
from regate_adapters.backend.model_listing import listed_models
from regate_adapters.backend.shown_errors import shown_words
from regate_adapters.backend.upstream_response import UpstreamResponse
from regate_orchestrator.errors import UpstreamError
from regate_orchestrator.upstream_capabilities import UpstreamCapabilities
from regate_orchestrator.values import Clock

_log = logging.getLogger("regate.backend")

_CONNECT_SECONDS: Final = 5.0
_LISTING_SECONDS: Final = 5.0
_CONTACT_SECONDS: Final = 2.0
_ERROR_TEXT_SECONDS: Final = 2.0
_RETRY_PAUSE_SECONDS: Final = 0.1
_MAX_CONNECTIONS: Final = 1_024
# Below the 5 s after which uvicorn (and with it vLLM) closes, so that no request meets a closing connection
_KEEP_ALIVE_SECONDS: Final = 4.0
_MAX_LISTING: Final = 4 * 1024 * 1024
_LARGE_BODY: Final = 512 * 1024
_PATH: Final = re.compile(r"(/[a-z_]+){1,3}")
_NO_LISTING: Final = frozenset({404, 405})
_LACKING: Final = "does base_url lack its last part, such as /v1?"

Pause = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class UpstreamConfig:
    """A backend that speaks the OpenAI API. `models` None means that it lists them itself; `timeout_s` is the
    longest wait for its next bytes.

    `aliases` are names that clients use for models of it; `by_policy` and `fallback_for` are those of
    `catalogue.Offer`. `show_errors`: callers may see its own words about what it refuses, without addresses
    and secrets.
    """

    name: str
    base_url: str
    api_key: str | None = field(repr=False)
    models: tuple[str, ...] | None
    timeout_s: float
    capabilities: UpstreamCapabilities = field(default_factory=UpstreamCapabilities)
    aliases: Mapping[str, str] = field(default_factory=dict)
    by_policy: bool = False
    fallback_for: tuple[str, ...] = ()
    show_errors: bool = False


class UpstreamClient:
    """One upstream's pool. No cookies, redirects, proxies from the environment, or decompression.

    `on_trouble` is told its name with each failure while it is in trouble: whoever made the link must then
    ask for `contact` until it is reached again.
    """

    def __init__(
        self, config: UpstreamConfig, *, clock: Clock, pause: Pause, on_trouble: Callable[[str], None]
    ) -> None:
        self.name = config.name
        self.health = Health(clock)
        self._config = config
        self._pause = pause
        self._on_trouble = on_trouble
        self._held = 0
        self._accepted = False
        """Whether its key was good for the latest request: one may be good for requests and not for
        the list of models.
        """
        self._session: aiohttp.ClientSession | None = None
        self._urls: dict[str, URL] = {}
        key = {} if config.api_key is None else {"Authorization": f"Bearer {config.api_key}"}
        self._headers = {
            "User-Agent": "regate",
            "Accept-Encoding": "identity",
            "Accept": "application/json",
            **key,
        }
        self._json_headers = {**self._headers, "Content-Type": "application/json"}
        self._stream_headers = {**self._json_headers, "Accept": "text/event-stream, application/json"}

    def start(self) -> None:
        """Make the pool; connects to nothing yet."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_MAX_CONNECTIONS, keepalive_timeout=_KEEP_ALIVE_SECONDS),
            timeout=aiohttp.ClientTimeout(
                total=None,
                connect=_CONNECT_SECONDS,
                sock_connect=_CONNECT_SECONDS,
                sock_read=self._config.timeout_s,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
        )

    async def stop(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def post(
        self, path: str, body: bytes, *, accept_stream: bool, again: bool = True
    ) -> aiohttp.ClientResponse:
        """Return a 2xx answer whose body is still to be read, and which must be released; or raise
        `UpstreamError`.

        That is `Unsent` where certainly nothing was sent. `again` tries a refused connection once more, for
        want of another upstream.
        """
        if self.health.is_open:
            raise circuit_open(self.name, self.health.retry_after)
        headers = self._stream_headers if accept_stream else self._json_headers
        self._held += 1
        try:
            # The total covers what aiohttp has no deadline for: an upstream that accepts the connection but
            # not our body.
            async with asyncio.timeout(_CONNECT_SECONDS + self._config.timeout_s):
                response = await self._send(self._url(path), body, headers, again=again)
        except BaseException as error:
            self._held -= 1
            if not isinstance(error, TRANSPORT_ERRORS):
                raise
            self._note_failure(error)
            raise unreached(self.name, error) from error
        self._note_answer()
        try:
            await self._require_success(response)
        except BaseException:
            self.release(response)
            raise
        self._accepted = True
        self._note_over("denied")
        return response

    def answered(self, response: aiohttp.ClientResponse) -> UpstreamResponse:
        """Return what `post` returned, to be read."""
        return UpstreamResponse(self.name, response, key=self._config.api_key)

    def release(self, response: aiohttp.ClientResponse) -> None:
        """Give the answer's connection back, or close it at once when there is more to read on it."""
        self._held -= 1
        _let_go(response)

    async def models(self) -> Sequence[ModelEntry]:
        """Return what the upstream lists. Raises `UpstreamError`."""
        name = self.name
        response: aiohttp.ClientResponse | None = None
        try:
            async with asyncio.timeout(_LISTING_SECONDS):
                response = await self._get_models()
                self._note_answer()
                await self._require_success(response, listing=True)
                self._note_over("no_models")
                body = await UpstreamResponse(name, response).read(limit=_MAX_LISTING)
        except TRANSPORT_ERRORS as error:
            self._note_failure(error)
            raise unreached(name, error) from error
        except UpstreamError as error:
            if response is not None and response.status in _NO_LISTING:
                error.detail = f"{error.detail} ({_LACKING})"
                self._note_trouble("no_models", error)
            raise
        finally:
            if response is not None:
                _let_go(response)
        return listed_models(name, body)

    async def contact(self) -> None:
        """Learn whether the upstream can be reached: any answer will do, and none within two seconds
        counts as a failed connection.
        """
        try:
            async with asyncio.timeout(_CONTACT_SECONDS):
                _let_go(await self._get_models())
            self._note_answer()
        except TRANSPORT_ERRORS as error:
            self._note_unreachable(error)

    def _note_answer(self) -> None:
        if self.health.reached():
            _log.warning("upstream_reached", extra={"upstream": self.name})

    def _note_trouble(self, trouble: Trouble, error: UpstreamError) -> None:
        if self.health.met(trouble):
            _log.warning("upstream_%s", trouble, extra={"upstream": self.name, "detail": error.detail})

    def _note_over(self, trouble: Trouble) -> None:
        if self.health.mended(trouble):
            _log.warning("upstream_no_longer_%s", trouble, extra={"upstream": self.name})

    def _note_failure(self, error: BaseException) -> None:
        # Whoever waited in vain for one of our own connections to come free has learnt nothing of the
        # upstream.
        if isinstance(error, UNCONNECTED) and self._held < _MAX_CONNECTIONS:
            self._note_unreachable(error)

    def _note_unreachable(self, error: BaseException) -> None:
        if self.health.not_reached():
            _log.warning(
                "upstream_unreachable", extra={"upstream": self.name, "detail": str(error)[:MAX_DETAIL]}
            )
        if self.health.in_trouble:
            self._on_trouble(self.name)

    async def _get_models(self) -> aiohttp.ClientResponse:
        return await self._must_session.get(
            self._url("/models"), headers=self._headers, allow_redirects=False
        )

    @property
    def _must_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise UpstreamError("The backend cannot be reached.", detail=f"{self.name}: the pool is closed")
        return self._session

    def _url(self, path: str) -> URL:
        if path not in self._urls:
            if not _PATH.fullmatch(path):
                raise ValueError(f"not a path of ours: {path!r}")
            self._urls[path] = URL(self._config.base_url.rstrip("/") + path)
        return self._urls[path]

    async def _send(
        self, url: URL, body: bytes, headers: Mapping[str, str], *, again: bool
    ) -> aiohttp.ClientResponse:
        # A large body is written piecewise, so that the event loop goes on serving others meanwhile.
        def data() -> bytes | io.BytesIO:
            return body if len(body) <= _LARGE_BODY else io.BytesIO(body)

        try:
            return await self._must_session.post(url, data=data(), headers=headers, allow_redirects=False)
        except aiohttp.ClientConnectorError as error:
            if not again or error.os_error.errno != errno.ECONNREFUSED:
                raise
        # Certainly nothing was sent, as no connection came about. A restarting backend is back a moment
        # later.
        await self._pause(_RETRY_PAUSE_SECONDS)
        return await self._must_session.post(url, data=data(), headers=headers, allow_redirects=False)

    async def _require_success(self, response: aiohttp.ClientResponse, *, listing: bool = False) -> None:
        if not 200 <= response.status < 300:
            text = await self._error_text(response)
            shown = shown_words(text) if self._config.show_errors else ""
            error = refused(
                self.name,
                response.status,
                retry_after=response.headers.get("Retry-After"),
                text=text,
                shown=shown,
            )
            if response.status in DENIED and not (listing and self._accepted):
                self._accepted = False
                self._note_trouble("denied", error)
            raise error
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise misunderstood(self.name, "an encoding that was not asked for")

    async def _error_text(self, response: aiohttp.ClientResponse) -> str:
        text = bytearray()
        try:
            async with asyncio.timeout(_ERROR_TEXT_SECONDS):
                while len(text) < 2 * MAX_DETAIL and (chunk := await response.content.readany()):
                    text += chunk
        except TRANSPORT_ERRORS:
            text += b" (broken off)"
        words = text[: 2 * MAX_DETAIL].decode("utf-8", "replace")
        # Some upstreams quote the key they refuse.
        return words if self._config.api_key is None else words.replace(self._config.api_key, "***")


def _let_go(response: aiohttp.ClientResponse) -> None:
    """Close the connection at once, unless the body was read to its end and the connection is back in
    the pool already.
    """
    connection = response.connection
    if connection is None:
        return
    if connection.transport is not None:
        # A plain close would first wait for the peer to take what we still have to send
        connection.transport.abort()
    response.close()
