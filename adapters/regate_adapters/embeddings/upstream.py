"""An embedder behind an OpenAI-compatible `/embeddings`. Believes nothing of the answer that it has
not checked.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Final, Self

import aiohttp
import orjson

from regate_adapters.overflow import says_too_long, told_limit
from regate_orchestrator.errors import EmbeddingsUnavailable, TextTooLong
from regate_orchestrator.ports import Vector

_BATCH: Final = 64
_MAX_BYTES: Final = 32 * 1024 * 1024
_MAX_WORDS: Final = 2_048
_MAX_CONNECTIONS: Final = 16
_CONNECT_SECONDS: Final = 5.0


class UpstreamEmbedder:
    """Asks an upstream for vectors, 64 texts a call, each call within the deadline. Must be entered
    before use.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        most_tokens: int | None = None,
        deadline_s: float = 30.0,
    ) -> None:
        self._url = base_url.rstrip("/") + "/embeddings"
        self._model = model
        self._most_tokens = most_tokens
        self._headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._deadline_s = deadline_s
        self._session: aiohttp.ClientSession | None = None
        self._length: int | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_MAX_CONNECTIONS),
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

    @property
    def name(self) -> str:
        """Return the name of the model's vector space."""
        return f"upstream:{self._model}"

    async def dimensions(self) -> int:
        """Return the vectors' length, which the first call finds out by asking for one. Raises
        `EmbeddingsUnavailable`.
        """
        if self._length is None:
            await self._ask(["dimensions"])
        assert self._length is not None  # noqa: S101 — INVARIANT: an answer that was accepted has a length
        return self._length

    # Nothing is kept, so nothing is shared
    async def embed(self, texts: Sequence[str], *, tenant: str) -> list[Vector]:  # noqa: ARG002
        """Return one unit-length vector a text.

        Raises `TextTooLong`, and `EmbeddingsUnavailable` for any answer but a complete and well-formed one.
        """
        vectors: list[Vector] = []
        for start in range(0, len(texts), _BATCH):
            vectors += await self._ask(texts[start : start + _BATCH])
        return vectors

    async def _ask(self, texts: Sequence[str]) -> list[Vector]:
        # Upstreams refuse an empty text; a lone surrogate has no UTF-8.
        inputs = [text.encode(errors="replace").decode() or " " for text in texts]
        body = orjson.dumps({"model": self._model, "input": inputs, "encoding_format": "float"})
        try:
            async with asyncio.timeout(self._deadline_s):
                answer = await self._post(body)
            return self._checked(answer, len(texts))
        except TimeoutError as error:
            raise EmbeddingsUnavailable(f"{self.name}: no answer within {self._deadline_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise EmbeddingsUnavailable(f"{self.name}: {type(error).__name__}") from error

    async def _post(self, body: bytes) -> bytes:
        try:
            return await self._post_once(body)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            return await self._post_once(
                body
            )  # a pooled connection that had been closed; asking twice changes nothing

    async def _post_once(self, body: bytes) -> bytes:
        if self._session is None:
            raise EmbeddingsUnavailable(f"{self.name}: not open")
        headers = {**self._headers, "Content-Type": "application/json"}
        async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
            if answer.status != 200:
                raise self._refused(answer.status, await answer.content.read(_MAX_WORDS))
            read = bytearray()
            async for piece in answer.content.iter_any():
                read += piece
                if len(read) > _MAX_BYTES:
                    raise EmbeddingsUnavailable(f"{self.name}: an answer of more than {_MAX_BYTES} bytes")
            return bytes(read)

    def _refused(self, status: int, body: bytes) -> EmbeddingsUnavailable | TextTooLong:
        words = body.decode("utf-8", "replace")
        # Some servers say so with 500; nothing is quoted back by an API of embeddings that could be taken for
        # it.
        if status != 429 and says_too_long(words, prose=True):
            return TextTooLong(self._most_tokens or told_limit(words))
        return EmbeddingsUnavailable(
            f"{self.name}: status {status}"
        )  # its words may quote the text of a document

    def _checked(self, answer: bytes, count: int) -> list[Vector]:
        try:
            data = orjson.loads(answer)["data"]
            vectors = _in_order(data, count)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise EmbeddingsUnavailable(
                f"{self.name}: a malformed answer ({type(error).__name__})"
            ) from error
        lengths = {len(vector) for vector in vectors} | (
            {self._length} if self._length is not None else set()
        )
        if len(lengths) != 1 or 0 in lengths:
            raise EmbeddingsUnavailable(f"{self.name}: vectors of lengths {sorted(lengths)}")
        (self._length,) = lengths
        return vectors


def _in_order(data: Sequence[Mapping[str, object]], count: int) -> list[Vector]:
    """Return the vectors in the order of the inputs. Raises `ValueError` unless there is exactly one
    for each.
    """
    vectors = {entry["index"]: _unit(entry["embedding"]) for entry in data}
    if len(data) != count or vectors.keys() != set(range(count)):
        raise ValueError("not one vector for each text")
    return [vectors[index] for index in range(count)]


def _unit(value: object) -> Vector:
    if not isinstance(value, list) or not all(
        isinstance(one, int | float) and not isinstance(one, bool) for one in value
    ):
        raise ValueError("not a list of numbers")
    length = math.hypot(*value)
    if not math.isfinite(length) or length == 0:
        raise ValueError("not a direction")
    return [one / length for one in value]
