"""The wire to OPA: `opa-python-client` over a unix socket or HTTP, one request at a time, with a deadline and
a size cap.

Not what the answers mean; that is `engine.py`, the counterpart.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import orjson
from opa_client.opa_async import AsyncOpaClient

from regate_orchestrator.errors import ConfigurationError, PolicyUnavailable
from regate_orchestrator.values import JsonObject

_MAX_CONNECTIONS: Final = 64
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


class OpaClient(AsyncOpaClient):  # type: ignore[misc]  # the library is untyped
    """A connection pool to one OPA. Must be entered before use; may then be used by many tasks at once."""

    def __init__(self, address: OpaAddress, *, deadline_s: float) -> None:
        parts = urlsplit(address.url)
        super().__init__(
            host=parts.hostname,
            port=parts.port or (443 if parts.scheme == "https" else 80),
            ssl=parts.scheme == "https",
            token=address.token,
            retries=0,  # the library would retry HTTP 500, which is how OPA reports that rules conflict
            timeout=deadline_s,
        )
        self._address = address
        self._root = address.url.rstrip("/")
        self._deadline_s = deadline_s

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
        return await self._answer("GET", path, None)

    async def _answer(self, method: str, path: str, body: bytes | None) -> Reply:
        try:
            async with asyncio.timeout(self._deadline_s):
                use = SimpleNamespace(pooled=False)
                try:
                    return await self._exchange(method, path, body, use)
                except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                    if not use.pooled:
                        raise
                    return await self._exchange(method, path, body, SimpleNamespace(pooled=False))
        except TimeoutError as error:
            raise PolicyUnavailable(f"OPA did not answer {path} within {self._deadline_s} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise PolicyUnavailable(f"OPA cannot be asked {path}: {error!r}") from error

    async def _exchange(self, method: str, path: str, body: bytes | None, use: SimpleNamespace) -> Reply:
        if self._session is None:
            raise PolicyUnavailable("the connection to OPA is closed")
        headers = {} if body is None else {"Content-Type": "application/json"}
        async with self._session.request(
            method,
            f"{self._root}{path}",
            data=body,
            allow_redirects=False,
            trace_request_ctx=use,
            headers=headers,
        ) as response:
            parts: list[bytes] = []
            total = 0
            async for part in response.content.iter_any():
                parts.append(part)
                total += len(part)
                if total > _MAX_BYTES:
                    raise PolicyUnavailable(f"OPA's answer to {path} is larger than {_MAX_BYTES} bytes")
            return Reply(response.status, b"".join(parts))

    async def _init_session(self) -> None:
        """Open the pool; the library calls this on entering."""
        socket = self._address.socket
        self._connector = (
            aiohttp.UnixConnector(path=str(socket), limit=_MAX_CONNECTIONS)
            if socket is not None
            else aiohttp.TCPConnector(limit=_MAX_CONNECTIONS)
        )
        tracing = aiohttp.TraceConfig()
        tracing.on_connection_reuseconn.append(_note_pooled)
        token = self._address.token
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            timeout=aiohttp.ClientTimeout(
                total=None
            ),  # `post` sets the one deadline, for sending and reading together
            headers={"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {token}"} if token else {}),
            trace_configs=[tracing],
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )


async def _note_pooled(
    _session: aiohttp.ClientSession, context: SimpleNamespace, _params: aiohttp.TraceConnectionReuseconnParams
) -> None:
    context.trace_request_ctx.pooled = True
