"""What traces are told of calls of models (OpenTelemetry's conventions for GenAI clients): which model was
asked, what it cost, how it ended. Never what was asked or said.

`TracedBackend` stands before a backend while a request is traced, and only then. The counterpart for answers
that pass through is `regate_gateway.routes.chat.traced`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from regate_orchestrator.model_events import ModelEnded, ModelEvent, ModelFailed
from regate_orchestrator.ports import Backend
from regate_orchestrator.principal import Context
from regate_orchestrator.tracing.spans import (
    CACHED_TOKENS,
    FINISH_REASONS,
    FIRST_CHUNK,
    INPUT_TOKENS,
    OPERATION,
    OUTPUT_TOKENS,
    PROVIDER,
    REASONING_TOKENS,
    REQUEST_MODEL,
    RESPONSE_MODEL,
    STREAM,
    UPSTREAM,
    TraceSpan,
    Value,
    error_type,
    plain,
    span_clock,
)
from regate_orchestrator.values import JsonObject

_PROVIDER: Final = "openai"
"""Every upstream speaks this API; who really stands behind it only its operator knows (`regate.upstream`)."""


def begin_model_call(
    parent: TraceSpan, context: Context, operation: str, *, upstream: str, model: str, stream: bool
) -> TraceSpan:
    """Return the span of a call, which begins now."""
    attributes: dict[str, Value] = {
        **context.ids,
        OPERATION: operation,
        PROVIDER: _PROVIDER,
        UPSTREAM: upstream,
        REQUEST_MODEL: plain(model),
        STREAM: stream,
    }
    return parent.begin(f"{operation} {plain(model)}", attributes, kind="client")


def traced_backend(backend: Backend, context: Context) -> Backend:
    """Return the backend, its calls told of where the context is traced."""
    return backend if context.span is None else TracedBackend(backend, context, context.span)


@dataclass(frozen=True, slots=True)
class TracedBackend:
    """A backend whose calls are told of."""

    inner: Backend
    context: Context
    span: TraceSpan

    @asynccontextmanager
    async def chat(
        self, upstream: str, payload: JsonObject, *, alternates: Sequence[str] = ()
    ) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        """Open the call. See `ports.Backend.chat`."""
        model = str(payload.get("model"))
        span = begin_model_call(self.span, self.context, "chat", upstream=upstream, model=model, stream=True)
        error, began = "", span_clock()
        try:
            async with self.inner.chat(upstream, payload, alternates=alternates) as events:
                told = _Told(events, span, began)
                yield told
                error = told.error
        except BaseException as raised:
            error = error_type(raised)
            raise
        finally:
            span.end(error=error)


class _Told:
    """The events of a call, each looked at as it passes. A class, not a generator: one that is abandoned
    half-way needs no closing of its own.
    """

    def __init__(self, events: AsyncIterator[ModelEvent], span: TraceSpan, began: float) -> None:
        self._events = events
        self._span = span
        self._began = began
        self._is_first = True
        self.error = ""

    def __aiter__(self) -> _Told:
        return self

    async def __anext__(self) -> ModelEvent:
        event = await anext(self._events)
        if self._is_first:
            self._is_first = False
            self._span.note({FIRST_CHUNK: span_clock() - self._began})
        match event:
            case ModelEnded():
                self._span.note(_ending(event))
            case ModelFailed(error):
                self.error = error_type(error)
            case _:
                pass
        return event


def _ending(ended: ModelEnded) -> dict[str, Value]:
    usage = ended.usage
    counts = {
        INPUT_TOKENS: usage.input_tokens,
        OUTPUT_TOKENS: usage.output_tokens,
        CACHED_TOKENS: usage.cached_tokens,
        REASONING_TOKENS: usage.reasoning_tokens,
    }
    told: dict[str, Value] = {name: count for name, count in counts.items() if count}
    told[FINISH_REASONS] = (ended.reason,)
    if ended.model is not None:
        told[RESPONSE_MODEL] = plain(ended.model)
    return told
