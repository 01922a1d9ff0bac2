"""An upstream's answer, whose body is read as it comes. Who asks is `upstream_client.py`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Final

from regate_adapters.backend.failures import TRANSPORT_ERRORS, misunderstood, unreached
from regate_adapters.http_client.connection import Answer
from regate_orchestrator.errors import UpstreamError

BLANK: Final = b" \t\r\n\xef\xbb\xbf"
"""What may stand before an answer and says nothing."""
_MAX_BLANK: Final = 1024 * 1024
_PASSED_HEADERS: Final = ("content-length",)


class UpstreamResponse:
    """A 2xx answer whose body is still to be read. Valid only within the context that made it."""

    __slots__ = ("_key", "_response", "headers", "status", "upstream")

    def __init__(self, upstream: str, response: Answer, *, key: str | None = None) -> None:
        self.upstream = upstream
        self._response = response
        self._key = key
        self.status = response.status
        self.headers: Mapping[str, str] = {
            name: response.headers[name] for name in _PASSED_HEADERS if name in response.headers
        }

    def chunks(self) -> AsyncIterator[bytes]:
        """Return the body's bytes as they come. Raises `UpstreamError` when they break off or stay
        away; reads no faster than it is asked to.
        """
        return _Chunks(self.upstream, self._response)

    async def beginning(self) -> bytes:
        """Return the body's first bytes that say something, with what came with them; none at its end.
        Raises as `chunks` does.
        """
        blank = 0
        async for chunk in self.chunks():
            if said := chunk.lstrip(BLANK):
                return said
            blank += len(chunk)
            if blank > _MAX_BLANK:
                raise misunderstood(self.upstream, f"more than {_MAX_BLANK} bytes that say nothing")
        return b""

    async def read(self, *, limit: int) -> bytes:
        """Return the whole body. Raises `UpstreamError` when it is larger than the limit, breaks off
        or stays away.
        """
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
            if len(body) > limit:
                raise misunderstood(self.upstream, f"a body of more than {limit} bytes")
        return bytes(body)

    def without_key(self, error: UpstreamError) -> UpstreamError:
        """Return the error, whose detail quotes the answer, without the key that was sent: some
        upstreams quote what they refuse.
        """
        if self._key is not None:
            error.detail = error.detail.replace(self._key, "***")
        return error

    async def settle(self, *, within_s: float) -> None:
        """Read on to the end of a body of which nothing more is wanted, so that its connection can be
        used again; waits no longer than said.
        """
        try:
            async with asyncio.timeout(within_s):
                while await self._response.readany():
                    pass
        except TRANSPORT_ERRORS:
            return  # the connection is closed instead


class _Chunks:
    """The pieces of a body. A class, not a generator: one that is abandoned half-way needs no closing
    of its own.
    """

    __slots__ = ("_content", "_upstream")

    def __init__(self, upstream: str, content: Answer) -> None:
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
