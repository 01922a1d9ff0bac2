"""A vector engine that is asked in JSON over HTTP, as all of them are asked: with a deadline for each answer,
and with every failure told as `VectorStoreUnavailable`.

Not what is asked: that is the engine's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import orjson

from regate_adapters.http_client.errors import BrokenOff, HttpFailure
from regate_adapters.http_client.heads import Heads
from regate_adapters.http_client.pool import Limits, Pool
from regate_orchestrator.errors import VectorStoreUnavailable

_MAX_CONNECTIONS: Final = 32
_KEEP_ALIVE_SECONDS: Final = 30.0
_MAX_BYTES: Final = 128 * 1024 * 1024
_SUCCESS: Final = range(200, 300)
_REFUSED: Final = (401, 403)
_OPTIONS: Final = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its status, and its JSON, which is None where there is none."""

    status: int
    document: Any


def encoded(*documents: object) -> bytes:
    """Return the documents as lines of JSON. Raises `VectorStoreUnavailable` for what is none, as a lone
    surrogate.
    """
    try:
        return b"".join(orjson.dumps(document, option=_OPTIONS) for document in documents)
    except TypeError as error:
        raise VectorStoreUnavailable(f"what is to be stored or asked is no JSON: {error}") from None


class JsonServer:
    """Connections to one server. Must be entered before use; may then be used by many tasks at once.

    All requests must bear being sent twice: one that met a connection which the server had closed is sent
    once more. No message holds what a header or a body says.
    """

    def __init__(self, called: str, url: str, *, headers: Mapping[str, str], timeout_s: float) -> None:
        self.called = called
        """What the server is called in messages."""
        self._url = url
        self._timeout_s = timeout_s
        self._heads = Heads(url, headers)
        self._pool: Pool | None = None

    async def __aenter__(self) -> Self:
        """Make the pool; connects to nothing yet."""
        self._pool = Pool(self._url, Limits(_MAX_CONNECTIONS, _KEEP_ALIVE_SECONDS, self._timeout_s))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    async def ask(
        self, method: str, path: str, document: object = None, *, also: Collection[int] = ()
    ) -> Reply:
        """Return the answer to a request with this JSON, if any; bytes are sent as they are. Raises
        `VectorStoreUnavailable` for a status that is no success nor among those given.
        """
        where = f"{method} {path.partition('?')[0]}"
        body = document if document is None or isinstance(document, bytes) else encoded(document)
        reply = await self._answer(method, path, where, body)
        if reply.status not in _SUCCESS and reply.status not in also:
            refused = " (the key, or user and password, are refused)" if reply.status in _REFUSED else ""
            raise VectorStoreUnavailable(
                f"{self.called} answered {where} with status {reply.status}{refused}"
            )
        return reply

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Tell an answer of another shape than it must have as `VectorStoreUnavailable`."""
        try:
            yield
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise VectorStoreUnavailable(
                f"{self.called} gave an answer of an unknown shape ({type(error).__name__})"
            ) from None

    async def _answer(self, method: str, path: str, where: str, body: bytes | None) -> Reply:
        if self._pool is None:
            raise VectorStoreUnavailable(f"the connection to {self.called} is closed")
        try:
            async with asyncio.timeout(self._timeout_s):
                try:
                    return await self._exchange(self._pool, method, path, body)
                except BrokenOff as error:
                    if not error.unanswered:
                        raise
                    return await self._exchange(self._pool, method, path, body)
        except TimeoutError:
            raise VectorStoreUnavailable(
                f"{self.called} did not answer {where} within {self._timeout_s} s"
            ) from None
        except (HttpFailure, OSError) as error:
            raise VectorStoreUnavailable(f"{self.called} cannot be asked {where}: {_told(error)}") from None
        except orjson.JSONDecodeError:
            raise VectorStoreUnavailable(f"{self.called} answered {where} with what is no JSON") from None

    async def _exchange(self, pool: Pool, method: str, path: str, body: bytes | None) -> Reply:
        head = self._heads.once(method, pool.authority, path, body)
        answer = await pool.send(head, body or b"", silence_s=self._timeout_s)
        try:
            parts, total = [], 0
            while part := await answer.readany():
                parts.append(part)
                total += len(part)
                if total > _MAX_BYTES:
                    raise VectorStoreUnavailable(
                        f"an answer of {self.called} is larger than {_MAX_BYTES} bytes"
                    )
        finally:
            pool.release(answer)
        whole = b"".join(parts)
        if answer.status not in _SUCCESS and not whole.startswith(b"{"):
            return Reply(answer.status, None)  # of a proxy in between
        return Reply(answer.status, orjson.loads(whole) if whole.strip() else None)


def _told(error: HttpFailure | OSError) -> str:
    """Return an error in its own words; by its kind where it has none."""
    return str(error) or type(error).__name__
