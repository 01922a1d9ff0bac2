"""What traces are told of a search (OpenTelemetry's conventions for GenAI retrieval): the store, its engine,
and how many chunks were found, admitted and dropped. Never a query, a chunk, or the name of a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from regate_orchestrator.principal import Context
from regate_orchestrator.retrieval.stores import OpenStore
from regate_orchestrator.tracing.spans import (
    ADMITTED,
    DENIED,
    ENGINE,
    FOUND,
    GONE,
    OPERATION,
    REQUEST_MODEL,
    STORE,
    TraceSpan,
    Value,
    error_type,
    plain,
)


@contextmanager
def store_span(context: Context, span: TraceSpan, store: OpenStore) -> Iterator[Context]:
    """Enter with the context in which one store is searched, told below a span of its own."""
    attributes: dict[str, Value] = {
        **context.ids,
        OPERATION: "retrieval",
        STORE: store.row.id,
        ENGINE: plain(store.row.engine),
        FOUND: 0,
        ADMITTED: 0,
        DENIED: 0,
        GONE: 0,
    }
    own = span.begin("retrieval", attributes)
    try:
        yield context.within(own)
    except BaseException as raised:
        own.end(error=error_type(raised))
        raise
    own.end()


def tell_candidates(span: TraceSpan, *, found: int, live: int, admitted: int) -> None:
    """Add what became of candidates to the span of their search."""
    span.count(FOUND, found)
    span.count(ADMITTED, admitted)
    span.count(DENIED, live - admitted)
    span.count(GONE, found - live)


def tell_embedding(context: Context, span: TraceSpan, model: str, *, began: float) -> None:
    """Tell that vectors of queries were made."""
    attributes: dict[str, Value] = {**context.ids, OPERATION: "embeddings", REQUEST_MODEL: plain(model)}
    span.tell(f"embeddings {plain(model)}", attributes, began=began)
