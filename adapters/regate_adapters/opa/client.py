"""The wire to OPA: HTTP over a unix socket or TCP, one request at a time, with a deadline and a size cap.

Not what the answers mean; that is `engine.py`, the counterpart.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import orjson

from regate_adapters.http_client.errors import BrokenOff, HttpFailure
from regate_adapters.http_client.heads import Heads
from regate_adapters.http_client.pool import Limits, Pool
from regate_orchestrator.errors import ConfigurationError, PolicyUnavailable
from regate_orchestrator.values import JsonObject

_MAX_CONNECTIONS: Final = 64
_KEEP_ALIVE_SECONDS: Final = 60.0
_MAX_BYTES: Final = 16 * 1024 * 1024
_LOGGED: Final = 2_000


@dataclass(frozen=True, slots=True)
class OpaAddress:
    """Where an OPA answers: a unix socket, or an http(s) URL. The token goes into no log and no repr."""

    url: str
    socket: Path | None = None
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if (
            parts.scheme not in {"http", "https"}
            or not parts.hostname
            or parts.username
            or parts.query
            or parts.fragment
        ):
            raise ConfigurationError("opa.url must be http://host:port or https://host:port")


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer, read whole."""

    status: int
    body: bytes

    @property
    def excerpt(self) -> str:
        """Return the beginning of the body, for the log."""
        return self.body[:_LOGGED].decode(errors="replace")


class OpaClient:
    """A connection pool to one OPA. Must be entered before use; may then be used by many tasks at once."""

    def __init__(self, address: OpaAddress, *, deadline_s: float) -> None:
        self._address = address
        self._deadline_s = deadline_s
        self._pool: Pool | None = None
        token = address.token
        self._heads = Heads(address.url, {"Authorization": f"Bearer {token}"} if token else {})

    async def __aenter__(self) -> Self:
        """Make the pool; connects to nothing yet."""
        limits = Limits(_MAX_CONNECTIONS, _KEEP_ALIVE_SECONDS, self._deadline_s)
        self._pool = Pool(self._address.url, limits, socket=self._address.socket)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    async def post(self, path: str, document: JsonObject) -> Reply:
        """Return the answer to one POST of JSON. Raises `PolicyUnavailable` when there is none in time or it
        is larger than 16 MiB.

        An answered request is never sent again. One that met a pooled connection which OPA had closed was not
        answered, and is sent once more on another.
        """
        try:
            body = orjson.dumps(document)
        except TypeError as error:  # a lone surrogate, an integer beyond 64 bits
            raise PolicyUnavailable(f"the input for {path} is not JSON: {error}") from error
        return await self._answer("POST", path, body)

    async def get(self, path: str) -> Reply:
        """Return the answer to one GET, on the terms of `post`."""
        return await self._answer("GET", path, b"")

    async def _answer(self, method: str, path: str, body: bytes) -> Reply:
        if self._pool is None:
            raise PolicyUnavailable("the connection to OPA is closed")
        try:
            async with asyncio.timeout(self._deadline_s):
                try:
                    return await self._exchange(self._pool, method, path, body)
                except BrokenOff as error:
                    if not error.unanswered:
                        raise
                    return await self._exchange(self._pool, method, path, body)
        except TimeoutError as error:
            raise PolicyUnavailable(f"OPA did not answer {path} within {self._deadline_s} s") from error
        except (HttpFailure, OSError) as error:
            raise PolicyUnavailable(f"OPA cannot be asked {path}: {error!r}") from error

    async def _exchange(self, pool: Pool, method: str, path: str, body: bytes) -> Reply:
        heads, authority = self._heads, pool.authority
        head = heads.post(authority, path, body) if method == "POST" else heads.get(authority, path)
        answer = await pool.send(head, body, silence_s=self._deadline_s)
        try:
            parts, total = [], 0
            while part := await answer.readany():
                parts.append(part)
                total += len(part)
                if total > _MAX_BYTES:
                    raise PolicyUnavailable(f"OPA's answer to {path} is larger than {_MAX_BYTES} bytes")
            return Reply(answer.status, parts[0] if len(parts) == 1 else b"".join(parts))
        finally:
            pool.release(answer)
