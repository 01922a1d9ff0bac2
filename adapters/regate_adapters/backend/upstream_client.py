"""One upstream's pool of kept connections, and requests of our own making over it.

What leaves here is our body and our headers with the upstream's own key; nothing of the client's request is
passed on, and an answer that is not 2xx becomes an `UpstreamError` in our words (`failures.py`). Not which
upstream is asked: that is `upstreams.py`.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from regate_adapters.backend.catalogue import ModelEntry
from regate_adapters.backend.failures import (
    DENIED,
    MAX_DETAIL,
    TRANSPORT_ERRORS,
    circuit_open,
    misunderstood,
    refused,
    unreached,
)
from regate_adapters.backend.health import Health, Trouble
from regate_adapters.backend.model_listing import listed_models
from regate_adapters.backend.shown_errors import shown_words
from regate_adapters.backend.upstream_response import UpstreamResponse
from regate_adapters.http_client.connection import Answer
from regate_adapters.http_client.errors import AllInUse, NotConnected
from regate_adapters.http_client.heads import Heads
from regate_adapters.http_client.pool import Limits, Pool
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
_JSON: Final = "application/json"
_STREAM: Final = "text/event-stream, application/json"
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
        self._accepted = False
        """Whether its key was good for the latest request: one may be good for requests and not for
        the list of models.
        """
        self._pool: Pool | None = None
        key = {} if config.api_key is None else {"Authorization": f"Bearer {config.api_key}"}
        self._heads = Heads(config.base_url, {"User-Agent": "regate", **key})

    def start(self) -> None:
        """Make the pool; connects to nothing yet."""
        self._pool = Pool(
            self._config.base_url, Limits(_MAX_CONNECTIONS, _KEEP_ALIVE_SECONDS, _CONNECT_SECONDS)
        )

    async def stop(self) -> None:
        """Close all connections."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    async def post(self, path: str, body: bytes, *, accept_stream: bool, again: bool = True) -> Answer:
        """Return a 2xx answer whose body is still to be read, and which must be released; or raise
        `UpstreamError`.

        That is `Unsent` where certainly nothing was sent. `again` tries a refused connection once more, for
        want of another upstream.
        """
        if self.health.is_open:
            raise circuit_open(self.name, self.health.retry_after)
        _require_ours(path)
        accept = _STREAM if accept_stream else _JSON
        head = self._heads.post(self._must_pool.authority, path, body, accept=accept)
        try:
            response = await self._send(head, body, again=again)
        except TRANSPORT_ERRORS as error:
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

    def answered(self, response: Answer) -> UpstreamResponse:
        """Return what `post` returned, to be read."""
        return UpstreamResponse(self.name, response, key=self._config.api_key)

    def release(self, response: Answer) -> None:
        """Give the answer's connection back, or close it at once when there is more to read on it."""
        self._must_pool.release(response)

    async def models(self) -> Sequence[ModelEntry]:
        """Return what the upstream lists. Raises `UpstreamError`."""
        name = self.name
        response: Answer | None = None
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
                self._must_pool.release(response)
        return listed_models(name, body)

    async def contact(self) -> None:
        """Learn whether the upstream can be reached: any answer will do, and none within two seconds
        counts as a failed connection.
        """
        try:
            async with asyncio.timeout(_CONTACT_SECONDS):
                self._must_pool.release(await self._get_models())
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
        if isinstance(error, NotConnected) and not isinstance(error, AllInUse):
            self._note_unreachable(error)

    def _note_unreachable(self, error: BaseException) -> None:
        if self.health.not_reached():
            _log.warning(
                "upstream_unreachable", extra={"upstream": self.name, "detail": str(error)[:MAX_DETAIL]}
            )
        if self.health.in_trouble:
            self._on_trouble(self.name)

    async def _get_models(self) -> Answer:
        head = self._heads.get(self._must_pool.authority, "/models", accept=_JSON)
        return await self._must_pool.send(head, b"", silence_s=self._config.timeout_s)

    @property
    def _must_pool(self) -> Pool:
        if self._pool is None:
            raise UpstreamError("The backend cannot be reached.", detail=f"{self.name}: the pool is closed")
        return self._pool

    async def _send(self, head: bytes, body: bytes, *, again: bool) -> Answer:
        try:
            return await self._must_pool.send(head, body, silence_s=self._config.timeout_s)
        except NotConnected as error:
            if not again or not error.refused:
                raise
        # Certainly nothing was sent, as no connection came about. A restarting backend is back a moment
        # later.
        await self._pause(_RETRY_PAUSE_SECONDS)
        return await self._must_pool.send(head, body, silence_s=self._config.timeout_s)

    async def _require_success(self, response: Answer, *, listing: bool = False) -> None:
        if not 200 <= response.status < 300:
            text = await self._error_text(response)
            shown = shown_words(text) if self._config.show_errors else ""
            error = refused(
                self.name,
                response.status,
                retry_after=response.headers.get("retry-after"),
                text=text,
                shown=shown,
            )
            if response.status in DENIED and not (listing and self._accepted):
                self._accepted = False
                self._note_trouble("denied", error)
            raise error
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise misunderstood(self.name, "an encoding that was not asked for")

    async def _error_text(self, response: Answer) -> str:
        text = bytearray()
        try:
            async with asyncio.timeout(_ERROR_TEXT_SECONDS):
                while len(text) < 2 * MAX_DETAIL and (chunk := await response.readany()):
                    text += chunk
        except TRANSPORT_ERRORS:
            text += b" (broken off)"
        words = text[: 2 * MAX_DETAIL].decode("utf-8", "replace")
        # Some upstreams quote the key they refuse.
        return words if self._config.api_key is None else words.replace(self._config.api_key, "***")


@lru_cache
def _require_ours(path: str) -> None:
    """Raise `ValueError` unless it is a path that this program makes, never one of a client's."""
    if not _PATH.fullmatch(path):
        raise ValueError(f"not a path of ours: {path!r}")
