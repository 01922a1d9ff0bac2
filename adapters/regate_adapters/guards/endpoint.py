"""An HTTP endpoint that looks at texts: a connection of its own, our headers alone, and no word of what it
said in any error, since that may quote a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import orjson

from regate_orchestrator.errors import GuardUnavailable
from regate_orchestrator.values import JsonObject

_MAX_BYTES: Final = 4 * 1024 * 1024
_MAX_CONNECTIONS: Final = 64
_CONNECT_SECONDS: Final = 5.0
_LONGEST: Final = 16_384
_OVERLAP: Final = 512


class GuardEndpoint:
    """Takes JSON and gives JSON. Must be entered before use. Whoever asks must have a deadline."""

    def __init__(self, name: str, base_url: str, *, api_key: str | None) -> None:
        self.name = name
        self._base_url = base_url.rstrip("/")
        self._headers = {
            "Content-Type": "application/json",
            "User-Agent": "regate",
            **({} if api_key is None else {"Authorization": f"Bearer {api_key}"}),
        }
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_MAX_CONNECTIONS),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def post(self, path: str, payload: JsonObject) -> dict[str, Any]:
        """Return the JSON object that is answered. Raises `GuardUnavailable` for anything else."""
        body = orjson.dumps(payload)
        try:
            try:
                answer = await self._post_once(path, body)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                answer = await self._post_once(path, body)  # a kept connection that had been closed
            document = orjson.loads(answer)
        except ValueError as error:
            raise self.unusable("no JSON") from error
        except (aiohttp.ClientError, OSError) as error:
            raise self.unusable(type(error).__name__) from error
        if not isinstance(document, dict):
            raise self.unusable("no JSON object")
        return document

    def unusable(self, why: str) -> GuardUnavailable:
        """Return the error of an answer that cannot be used."""
        return GuardUnavailable(f"{self.name}: {why}")

    async def _post_once(self, path: str, body: bytes) -> bytes:
        if self._session is None:
            raise self.unusable("not open")
        async with self._session.post(
            self._base_url + path, data=body, headers=self._headers, allow_redirects=False
        ) as answer:
            if answer.status != 200:
                raise self.unusable(f"status {answer.status}")
            read = bytearray()
            async for piece in answer.content.iter_any():
                read += piece
                if len(read) > _MAX_BYTES:
                    raise self.unusable(f"an answer of more than {_MAX_BYTES} bytes")
            return bytes(read)


def sendable(text: str) -> str:
    """Return the text as JSON can hold it: a lone surrogate has no UTF-8."""
    return text.encode(errors="replace").decode()


def slices(text: str) -> Sequence[str]:
    """Return the text in parts that a model takes, each with the end of the one before."""
    if len(text) <= _LONGEST:
        return [text]
    return [text[start : start + _LONGEST] for start in range(0, len(text) - _OVERLAP, _LONGEST - _OVERLAP)]
