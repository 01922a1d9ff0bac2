"""The transport to one place that was let out (`guard.py`): httpx's, over connections to the addresses that
were checked, and to no other.

The name goes into `Host` and TLS, and is not looked up again, so a name server that answers otherwise the
second time changes nothing. Bodies are taken as they are, never decompressed, and counted.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any, Final, cast

import httpcore2
import httpx2

from regate_adapters.egress.addresses import Address
from regate_adapters.egress.place import LetOut
from regate_orchestrator.ports import Fetched

_MAX_TRIED: Final = 4
_MAX_HEADERS: Final = 100
_CONNECTIONS: Final = 8


class AnswerTooLarge(httpx2.TransportError):
    """The body of an answer is longer than what is accepted."""


class PinnedTransport(httpx2.AsyncBaseTransport):
    """Sends requests to one scheme, host and port, and takes bodies up to the limit, of each answer. It
    follows no redirect and knows no proxy.
    """

    def __init__(self, place: LetOut, *, limit_bytes: int) -> None:
        self._place = place
        self._limit_bytes = limit_bytes
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=place.tls,
            max_connections=_CONNECTIONS,
            network_backend=_Pinned(place),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Return the answer. Raises `httpx2.TransportError`, whose words name no address."""
        url, to = request.url, self._place.url
        port = url.port or {"http": 80, "https": 443}.get(url.scheme)
        if (url.scheme, url.raw_host.decode("ascii"), port) != (to.scheme, to.host, to.port):
            raise httpx2.UnsupportedProtocol("the request is for another place than the one let out")
        request.headers["Accept-Encoding"] = "identity"
        with _in_our_words():
            answer = await self._pool.handle_async_request(
                httpcore2.Request(
                    method=request.method,
                    url=httpcore2.URL(
                        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                    ),
                    headers=request.headers.raw,
                    content=cast("AsyncIterable[bytes]", request.stream),
                    extensions=request.extensions,
                )
            )
        body = _Counted(cast("AsyncIterable[bytes]", answer.stream), self._limit_bytes)
        fault = _fault_of(answer.headers)
        if fault is not None:
            await body.aclose()
            raise httpx2.RemoteProtocolError(fault)
        return httpx2.Response(answer.status, headers=answer.headers, stream=body)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


async def read_whole(answer: httpx2.Response, url: str) -> Fetched:
    """Return the whole body of an answer, and the media type that the server gives it."""
    data = b"".join([piece async for piece in answer.aiter_raw()])
    media_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    return Fetched(data, media_type[:128], url)


class _Counted(httpx2.AsyncByteStream):
    """A body that ends with `AnswerTooLarge` past the limit."""

    def __init__(self, body: AsyncIterable[bytes], limit_bytes: int) -> None:
        self._body = body
        self._left = limit_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _in_our_words():
            async for piece in self._body:
                self._left -= len(piece)
                if self._left < 0:
                    raise AnswerTooLarge("the answer is too long")
                yield piece

    async def aclose(self) -> None:
        with _in_our_words():
            if hasattr(self._body, "aclose"):
                await self._body.aclose()


class _Pinned(httpcore2.AsyncNetworkBackend):
    """Connects to the addresses that were checked, one after the other until one takes it."""

    def __init__(self, place: LetOut) -> None:
        self._place = place
        self._network = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 — httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        if (host, port) != (self._place.url.host, self._place.url.port):
            raise httpcore2.ConnectError("another place")
        return await _first_of(
            self._place.addresses,
            lambda address: self._network.connect_tcp(address, port, timeout, local_address, socket_options),
        )

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)


async def _first_of(addresses: Sequence[Address], connect: Any) -> httpcore2.AsyncNetworkStream:
    failed: Exception = httpcore2.ConnectError("no address")
    for address in addresses[:_MAX_TRIED]:
        try:
            return cast("httpcore2.AsyncNetworkStream", await connect(str(address)))
        except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
            failed = error
    raise failed


def _fault_of(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    """Return what is wrong with the head of an answer, or None."""
    if len(headers) > _MAX_HEADERS:
        return "the answer has too many headers"
    encodings = {value.strip().lower() for name, value in headers if name.lower() == b"content-encoding"}
    return None if encodings <= {b"identity", b""} else "the answer is compressed, which was not asked for"


@contextmanager
def _in_our_words() -> Any:
    """Tell what httpcore raises as httpx's errors, without addresses."""
    try:
        yield
    except httpcore2.TimeoutException as error:
        raise httpx2.TimeoutException("the server was too slow") from error
    except (httpcore2.ConnectError, ssl.SSLError) as error:
        raise httpx2.ConnectError("the server cannot be connected to") from error
    except (httpcore2.NetworkError, OSError) as error:
        raise httpx2.NetworkError("the connection broke off") from error
    except httpcore2.ProtocolError as error:
        raise httpx2.RemoteProtocolError("the server does not speak HTTP as it should") from error
