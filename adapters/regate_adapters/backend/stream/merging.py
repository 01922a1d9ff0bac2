"""Merging: pieces that arrived together leave together. Nothing waits for anything: what was read at once is
one event, and no more.

A fast backend then costs the loop an event a read instead of an event a token; a slow one is passed on token
by token, as it comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from regate_orchestrator.model_events import (
    ArgumentsWritten,
    ModelEvent,
    ReasoningWritten,
    RefusalWritten,
    TextWritten,
)
from regate_orchestrator.values import JsonObject

_Piece = TextWritten | ReasoningWritten | RefusalWritten | ArgumentsWritten


def merged(events: Iterable[ModelEvent]) -> Iterator[ModelEvent]:
    """Yield the events with adjacent pieces of the same text joined. What came before an error of the
    source is yielded before it is raised.
    """
    first: _Piece | None = None
    texts: list[str] = []
    logprobs: list[JsonObject] = []
    try:
        for event in events:
            if not isinstance(event, _Piece):
                if first is not None:
                    yield _joined(first, texts, logprobs)
                    first = None
                yield event
                continue
            if first is None or not _continues(first, event):
                if first is not None:
                    yield _joined(first, texts, logprobs)
                first, texts, logprobs = event, [], []
            texts.append(event.text)
            if isinstance(event, TextWritten) and event.logprobs:
                logprobs.extend(event.logprobs)
    except Exception:
        if first is not None:
            yield _joined(first, texts, logprobs)
        raise
    if first is not None:
        yield _joined(first, texts, logprobs)


def _continues(first: _Piece, event: _Piece) -> bool:
    same_slot = (
        not isinstance(first, ArgumentsWritten)
        or not isinstance(event, ArgumentsWritten)
        or first.slot == event.slot
    )
    return type(first) is type(event) and same_slot


def _joined(first: _Piece, texts: list[str], logprobs: list[JsonObject]) -> ModelEvent:
    if len(texts) == 1:
        return first
    text = "".join(texts)
    match first:
        case TextWritten():
            return TextWritten(text, tuple(logprobs))
        case ReasoningWritten():
            return ReasoningWritten(text)
        case RefusalWritten():
            return RefusalWritten(text)
        case ArgumentsWritten(slot, _):
            return ArgumentsWritten(slot, text)
