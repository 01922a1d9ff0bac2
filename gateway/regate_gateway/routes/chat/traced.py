"""What traces are told of an answer that passes through: read from its bytes as they pass, where the request
is traced, and only then. Nothing is held back, and nothing of what was asked or said is told.

The counterpart for the loop is `regate_orchestrator.model_calls.traced`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from regate_gateway.routes.chat.forwarded import Forwarded
from regate_gateway.routes.chat.usage import told_usage
from regate_gateway.services import Answering
from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.errors import RegateError
from regate_orchestrator.model_calls.traced import begin_model_call
from regate_orchestrator.tracing.spans import (
    CACHED_TOKENS,
    FINISH_REASONS,
    FIRST_CHUNK,
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    REASONING_TOKENS,
    RESPONSE_MODEL,
    TraceSpan,
    Value,
    error_type,
    plain,
    span_clock,
)

_OPERATIONS: Final[Mapping[str, str]] = {
    "/chat/completions": "chat",
    "/completions": "text_completion",
    "/embeddings": "embeddings",
}
_TOKENS: Final[Mapping[str, str]] = {
    "prompt_tokens": INPUT_TOKENS,
    "completion_tokens": OUTPUT_TOKENS,
    "cached_tokens": CACHED_TOKENS,
    "reasoning_tokens": REASONING_TOKENS,
}
_KEPT_BYTES: Final = 4_096
# Inside a JSON text every quotation mark is escaped, so no text of a model can look like these.
_MODEL: Final = re.compile(rb'"model"\s*:\s*"([^"\\]{1,128})"')
_FINISH: Final = re.compile(rb'"finish_reason"\s*:\s*"([a-z_]{1,32})"')


@asynccontextmanager
async def told(
    passing: AbstractAsyncContextManager[Answering],
    context: Context,
    parent: TraceSpan,
    *,
    request: Forwarded,
    upstream: str,
) -> AsyncIterator[Answering]:
    """Enter with the answer, which is told of until the context is left."""
    span = begin_model_call(
        parent,
        context,
        _OPERATIONS[request.path],
        upstream=upstream,
        model=request.model,
        stream=request.stream,
    )
    error, began = "", span_clock()
    try:
        async with passing as answer:
            told = _Told(answer, began)
            yield told
            span.note(told.attributes())
            error = "" if told.failure is None else error_type(told.failure)
    except BaseException as raised:
        error = error_type(raised)
        raise
    finally:
        span.end(error=error)


class _Told:
    """An answer of which the first and the last bytes are looked at."""

    def __init__(self, inner: Answering, began: float) -> None:
        self._inner = inner
        self._began = began
        self._first_after: float | None = None
        self._head = b""
        self._tail = b""

    @property
    def is_stream(self) -> bool:
        return self._inner.is_stream

    @property
    def failure(self) -> RegateError | None:
        return self._inner.failure

    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self._inner.chunks():
            if self._first_after is None:
                self._first_after = span_clock() - self._began
                self._head = chunk[:_KEPT_BYTES]
            self._tail = (self._tail + chunk)[-_KEPT_BYTES:]
            yield chunk

    def attributes(self) -> dict[str, Value]:
        """Return what the answer says of itself, as far as it does."""
        told: dict[str, Value] = {}
        if self._first_after is not None and self.is_stream:
            told[FIRST_CHUNK] = self._first_after
        if (model := _MODEL.search(self._head) or _MODEL.search(self._tail)) is not None:
            told[RESPONSE_MODEL] = plain(model[1].decode("utf-8", "replace"))
        if reasons := _FINISH.findall(self._tail):
            told[FINISH_REASONS] = tuple(reason.decode() for reason in dict.fromkeys(reasons))
        return {**told, **_tokens(told_usage(self._tail))}


def _tokens(usage: Mapping[str, object]) -> dict[str, Value]:
    inside = [value for value in usage.values() if isinstance(value, Mapping)]
    found: dict[str, Value] = {}
    for holder in (usage, *inside):
        for name, attribute in _TOKENS.items():
            count = holder.get(name)
            if type(count) is int and count >= 0:
                found.setdefault(attribute, count)
    return found
