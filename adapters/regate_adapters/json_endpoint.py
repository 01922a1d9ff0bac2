"""One address that is asked with JSON and answers with JSON, within a deadline. What the answer means,
whoever asks must check.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import ClassVar, Final, Self

import aiohttp
import orjson

_MAX_WORDS: Final = 2_048
_CONNECT_SECONDS: Final = 5.0


class EndpointFailed(Exception):
    """There was no answer of status 200. The text says why and quotes nothing; `words` is what the body
    says.
    """

    def __init__(self, text: str, *, status: int | None = None, words: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.words = words


class JsonEndpoint:
    """An address to post to, at a path of an upstream. Must be entered before use. Without a deadline,
    whoever asks must have one.
    """

    most_bytes: ClassVar[int] = 32 * 1024 * 1024
    """Of an answer."""
    most_connections: ClassVar[int] = 16

    def __init__(self, base_url: str, path: str, *, api_key: str | None, deadline_s: float | None) -> None:
        self._url = base_url.rstrip("/") + path
        self._headers = {
            "Content-Type": "application/json",
            "User-Agent": "regate",
            **({} if api_key is None else {"Authorization": f"Bearer {api_key}"}),
        }
        self._deadline_s = deadline_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.most_connections),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def ask(self, question: object) -> bytes:
        """Return the body of the answer. Raises `EndpointFailed`."""
        body = orjson.dumps(question)
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._post(body)
        except aiohttp.ClientError as error:  # among them, that no connection came in time
            raise EndpointFailed(type(error).__name__) from error
        except TimeoutError as error:
            raise EndpointFailed(f"no answer within {self._deadline_s} s") from error
        except OSError as error:
            raise EndpointFailed(type(error).__name__) from error

    async def _post(self, body: bytes) -> bytes:
        try:
            return await self._post_once(body)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            return await self._post_once(
                body
            )  # a pooled connection that had been closed; asking twice changes nothing

    async def _post_once(self, body: bytes) -> bytes:
        if self._session is None:
            raise EndpointFailed("not open")
        async with self._session.post(
            self._url, data=body, headers=self._headers, allow_redirects=False
        ) as answer:
            if answer.status != 200:
                words = (await answer.content.read(_MAX_WORDS)).decode("utf-8", "replace")
                raise EndpointFailed(f"status {answer.status}", status=answer.status, words=words)
            read = bytearray()
            async for piece in answer.content.iter_any():
                read += piece
                if len(read) > self.most_bytes:
                    raise EndpointFailed(f"an answer of more than {self.most_bytes} bytes")
            return bytes(read)


def encodable(text: str) -> str:
    """Return the text as it can be sent: a lone surrogate has no UTF-8, and an empty text is refused by
    many.
    """
    return text.encode(errors="replace").decode() or " "
