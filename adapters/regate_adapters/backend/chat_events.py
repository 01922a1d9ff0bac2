"""The chat protocol's chunks as the machine's events: text, reasoning, refusals, calls, usage, and how the turn ended. Pure; reads no network.

A whole completion is read like one large chunk, its `message` being the delta. Which piece of a call belongs where is `tool_slots.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import orjson

from regate_adapters.backend.text_frame import Frame, frame_of
from regate_adapters.backend.told_errors import reported, tells_error
from regate_adapters.backend.tool_slots import NotUnderstood, ToolSlots
from regate_orchestrator.responses.events import (
    FinishReason,
    ModelEnded,
    ModelEvent,
    ReasoningWritten,
    RefusalWritten,
    TextWritten,
    Usage,
)
from regate_orchestrator.values import Json, JsonObject

_FINISH_REASONS: Final[Mapping[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "safety": "content_filter",
}
"""Any other reason counts as `stop`: the upstream says that the turn is over, in a word that we do not know."""
_TIER: Final = re.compile(r"[a-z_]{1,32}")
_BROKEN: Final = frozenset({"error", "abort", "aborted", "cancelled"})


class ChatTranslator:
    """Reads the chunks of one completion, in order. `upstream` is who sends them, for the log."""

    def __init__(self, upstream: str = "the backend") -> None:
        self._upstream = upstream
        self._slots = ToolSlots()
        self._usage = Usage()
        self._reason: str | None = None
        self._tier: str | None = None
        self._frame: Frame | None = None

    @property
    def finished(self) -> bool:
        """Whether the upstream has said how the turn ended. What may still come then is the usage."""
        return self._reason is not None

    def read_all(self, chunks: Sequence[bytes]) -> Iterator[ModelEvent]:
        """Yield what the chunks tell, as `read` does for each. A run of chunks that differ in their text alone is read as one."""
        position = 0
        while position < len(chunks):
            frame = self._frame
            literals = [] if frame is None else frame.run(chunks, position)
            if frame is not None and literals:
                yield from self._read_run(literals, frame)
                position += len(literals)
                continue
            events = self.read(chunks[position])
            self._frame = frame_of(chunks[position], events)
            yield from events
            position += 1

    def _read_run(self, literals: list[bytes], frame: Frame) -> Iterator[ModelEvent]:
        texts = frame.texts(literals)
        if texts is not None:
            if text := "".join(texts):
                yield TextWritten(text)
            return
        for literal in literals:
            yield from self.read(frame.around(literal))

    def read(self, data: bytes) -> list[ModelEvent]:
        """Return what a chunk tells. Raises `NotUnderstood`, and `UpstreamError` where the upstream reports an error in its stream."""
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise NotUnderstood("a chunk is not JSON") from error
        if not isinstance(chunk, dict):
            raise NotUnderstood("a chunk is not an object")
        if tells_error(chunk):
            self._reason = None  # whatever was said before, the turn did not end well
            raise reported(self._upstream, chunk)
        if isinstance(tier := chunk.get("service_tier"), str) and _TIER.fullmatch(tier):
            self._tier = tier
        if isinstance(usage := chunk.get("usage"), dict):
            self._usage = read_usage(usage)
        choices = chunk.get("choices")
        if not choices:  # the usage comes alone; some upstreams begin with a chunk about filters
            return []
        if not isinstance(choices, list):
            raise NotUnderstood("choices is not a list")
        for choice in choices:
            if isinstance(choice, dict) and choice.get("index", 0) in (0, None):
                return self._read_choice(choice)
        return []

    def end(self) -> list[ModelEvent]:
        """Return the turn's last events. Raises `NotUnderstood` when the upstream never said how it ended."""
        if self._reason is None:
            raise NotUnderstood("the stream ended without a finish reason")
        events = self._slots.close()
        reason = _FINISH_REASONS.get(self._reason, "stop")
        if reason in ("stop", "tool_calls"):
            reason = "tool_calls" if len(self._slots) else "stop"
        events.append(ModelEnded(reason, self._usage, self._tier))
        return events

    def _read_choice(self, choice: Mapping[str, object]) -> list[ModelEvent]:
        delta = choice.get("delta") or choice.get("message")
        events = self._read_delta(delta, _logprobs(choice.get("logprobs"))) if isinstance(delta, dict) else []
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason:
            if reason.lower() in _BROKEN:
                raise NotUnderstood(f"the backend broke its turn off: {reason[:32]}")
            self._reason = reason.lower()
        return events

    def _read_delta(self, delta: Mapping[str, object], logprobs: tuple[JsonObject, ...]) -> list[ModelEvent]:
        if len(delta) == 1 and not logprobs and isinstance(text := delta.get("content"), str):  # nearly every chunk
            return [TextWritten(text)] if text else []
        events: list[ModelEvent] = []
        # One and the same piece under two names is one piece.
        if reasoning := _text(delta.get("reasoning_content") or delta.get("reasoning")):
            events.append(ReasoningWritten(reasoning))
        if text := _text(delta.get("content")):
            events.append(TextWritten(text, logprobs))
        if refusal := _text(delta.get("refusal")):
            events.append(RefusalWritten(refusal))
        if calls := delta.get("tool_calls"):
            events += self._slots.read(calls)
        elif call := delta.get("function_call"):
            events += self._slots.read([{"function": call}])
        return events


def read_usage(usage: Mapping[str, object]) -> Usage:
    """Return the usage; what is missing, or no count, is zero."""
    return Usage(
        input_tokens=_count(usage.get("prompt_tokens")),
        cached_tokens=_count(_member(usage.get("prompt_tokens_details"), "cached_tokens")),
        output_tokens=_count(usage.get("completion_tokens")),
        reasoning_tokens=_count(_member(usage.get("completion_tokens_details"), "reasoning_tokens")),
    )


def _logprobs(value: object) -> tuple[JsonObject, ...]:
    """Return the log probabilities of a piece of text, in the Responses API's shape; what is none is left out."""
    content = _member(value, "content")
    if not isinstance(content, list):
        return ()
    return tuple(
        {**_token(entry), "top_logprobs": [_token(top) for top in entry.get("top_logprobs") or () if _is_token(top)]}
        for entry in content
        if _is_token(entry)
    )


def _is_token(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("token"), str) and isinstance(value.get("logprob"), int | float)


def _token(value: Mapping[str, Json]) -> dict[str, Json]:
    given = value.get("bytes")
    return {
        "token": value["token"],
        "logprob": value["logprob"],
        "bytes": given if isinstance(given, list) else list(str(value["token"]).encode()),
    }


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        parts = (part.get("text") for part in value if isinstance(part, dict))
        return "".join(part for part in parts if isinstance(part, str))
    return ""


def _member(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, dict) else None


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
