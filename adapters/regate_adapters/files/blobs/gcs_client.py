"""Requests to the JSON API of Google Cloud Storage, each within a deadline, and sent again where Google says
that this is right.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import aiohttp
import orjson
from yarl import URL

from regate_adapters.files.blobs.gcs_tokens import Tokens, TokenSource
from regate_orchestrator.errors import StateUnavailable

_CONNECTIONS: Final = 32
_MOST_BYTES: Final = 2 * 1024 * 1024
_ATTEMPTS: Final = 3
_PAUSE_SECONDS: Final = 0.2
_REFUSED: Final = 401
_PASSING: Final = frozenset({_REFUSED, 408, 429, 500, 502, 503, 504})
"""Answers after which Google has a request sent again; after the first one, with a new token."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def failure(self) -> StateUnavailable:
        """Return what it means where it is not what was hoped for: its status, and the reason of Google's
        errors, which names no object.
        """
        try:
            reason = orjson.loads(self.body)["error"]["errors"][0]["reason"]
        except (ValueError, KeyError, IndexError, TypeError):
            reason = "no reason"
        return StateUnavailable(f"files: HTTP {self.status} ({str(reason)[:64]})")

    @property
    def is_passing(self) -> bool:
        """Return whether the same request may go well later."""
        return self.status in _PASSING


class GcsClient:
    """The requests. Must be entered."""

    def __init__(self, source: TokenSource | None, *, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self._tokens = Tokens(source)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),  # whoever asks says how long
            auto_decompress=False,
            headers={"Accept-Encoding": "identity"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def ask(
        self, method: str, url: str, *, data: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Return the answer to a request that may be sent twice. Raises `StateUnavailable` where there is
        none in time.
        """
        try:
            async with asyncio.timeout(self.deadline_s):
                return await self._asked(method, url, data, headers or {})
        except TimeoutError as error:
            raise StateUnavailable("files: no answer in time") from error

    async def once(
        self, method: str, url: str, *, data: bytes = b"", headers: Mapping[str, str], with_token: bool
    ) -> Answer | None:
        """Return the answer to a request that is sent once; None where there is none."""
        try:
            token = await self._tokens.headers(self._session) if with_token else {}
            sent = io.BytesIO(data) if data else b""
            async with self._session.request(
                method,
                URL(url, encoded=True),
                data=sent,
                headers={**headers, **token, "Content-Length": str(len(data))},
                allow_redirects=False,
            ) as answer:
                return Answer(answer.status, answer.headers, await _whole(answer))
        except (aiohttp.ClientError, OSError):
            return None

    async def _asked(self, method: str, url: str, data: bytes, headers: Mapping[str, str]) -> Answer:
        answer = None
        for attempt in range(_ATTEMPTS):
            if attempt:
                await pause(attempt)
            answer = await self.once(method, url, data=data, headers=headers, with_token=True)
            if answer is not None and not answer.is_passing:
                return answer
            if answer is not None and answer.status == _REFUSED:
                self._tokens.forget()
        raise no_answer() if answer is None else answer.failure


async def pause(attempt: int) -> None:
    """Wait before another attempt, each time twice as long."""
    await asyncio.sleep(_PAUSE_SECONDS * 2 ** (attempt - 1))


def no_answer() -> StateUnavailable:
    """Return what it means that nothing was answered."""
    return StateUnavailable("files: no answer")


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in answer.content.iter_any():
        body += piece
        if len(body) > _MOST_BYTES:
            raise StateUnavailable("files: an answer is longer than was asked for")
    return bytes(body)
