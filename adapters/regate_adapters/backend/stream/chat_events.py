"""The chat protocol's chunks as the machine's events: text, reasoning, refusals, calls, usage, and how the
turn ended. Pure; reads no network.

A whole completion is read like one large chunk, its `message` being the delta. Which piece of a call belongs
where is `tool_slots.py`; what words for an end mean is `finish_reasons.py`, and where usage may stand
`token_usage.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, cast

import orjson

from regate_adapters.backend.stream.finish_reasons import graver, meaning_of, says_an_end
from regate_adapters.backend.stream.text_frame import Frame, frame_of
from regate_adapters.backend.stream.token_usage import usage_in
from regate_adapters.backend.stream.told_errors import read_loosely, reported, tells_error
from regate_adapters.backend.stream.tool_slots import NotUnderstood, ToolSlots
from regate_orchestrator.model_events import (
    ArgumentsWritten,
    CallOpened,
    FinishReason,
    ModelEnded,
    ModelEvent,
    ReasoningWritten,
    RefusalWritten,
    TextWritten,
    Usage,
)
from regate_orchestrator.values import Json, JsonObject

_TIER: Final = re.compile(r"[a-z_]{1,32}")
_REASONING: Final = ("reasoning_content", "reasoning", "thinking", "reasoning_details", "thinking_blocks")
"""Members of a delta that hold reasoning, each like the others where there are several."""
_IS_REASONING: Final = ("reasoning", "thinking", "thought")
"""What the types of parts of its content begin with that are reasoning."""
_TEXTS: Final = ("text", "thinking", "reasoning", "content", "summary", "refusal")
"""Members of a part that hold its text."""
_TOLD_BY: Final[Mapping[str, tuple[type, ...]]] = {
    "content": (TextWritten,),
    "refusal": (RefusalWritten,),
    "tool_calls": (CallOpened, ArgumentsWritten),
    "function_call": (CallOpened, ArgumentsWritten),
}
"""The events by which the members of a message were told before; those of the others are reasoning."""
_IMPOSSIBLE: Final = -9999.0
"""What stands for the log probability of a token that could not have come, as in OpenAI's own answers:
JSON has no infinity.
"""


class ChatTranslator:
    """Reads the chunks of one completion, in order. `upstream` is who sends them, for the log."""

    def __init__(self, upstream: str = "the backend") -> None:
        self._upstream = upstream
        self._slots = ToolSlots()
        self._usage: Usage | None = None
        self._reason: str | None = None
        self._ended: FinishReason | None = None
        """What the reason stands for; None where it is none of a good end."""
        self._in_deltas: set[type] = set()
        self._tier: str | None = None
        self._model: str | None = None
        self._frame: Frame | None = None

    @property
    def finished(self) -> bool:
        """Whether the upstream has said how the turn ended. What may still come then is the usage."""
        return self._reason is not None

    @property
    def is_counted(self) -> bool:
        """Whether the upstream has said what the turn cost."""
        return self._usage is not None

    def read_all(self, chunks: Sequence[bytes]) -> Iterator[ModelEvent]:
        """Yield what the chunks tell, as `read` does for each. A run of chunks that differ in their
        text alone is read as one.
        """
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
        """Return what a chunk tells. Raises `NotUnderstood`, and `UpstreamError` where the upstream
        reports an error in its stream.
        """
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            if not data.strip():  # an event without a word, to keep the connection open
                return []
            chunk = read_loosely(data)
            if chunk is None:
                raise NotUnderstood("a chunk is not JSON") from error
        if chunk is None:
            return []
        if not isinstance(chunk, dict):
            raise NotUnderstood("a chunk is not an object")
        if tells_error(chunk):
            self._reason = None  # whatever was said before, the turn did not end well
            raise reported(self._upstream, chunk)
        if isinstance(tier := chunk.get("service_tier"), str) and _TIER.fullmatch(tier):
            self._tier = tier
        if self._model is None and isinstance(model := chunk.get("model"), str):
            self._model = model
        choices = chunk.get("choices")
        if (usage := usage_in(chunk)) is not None:
            self._usage = usage
        if not choices:  # the usage comes alone; some upstreams begin with a chunk about filters
            return []
        if not isinstance(choices, list):
            raise NotUnderstood("choices is not a list")
        for choice in choices:
            if isinstance(choice, dict) and choice.get("index", 0) in (0, None):
                return self._read_choice(choice)
        return []

    def end(self) -> list[ModelEvent]:
        """Return the turn's last events. Raises `NotUnderstood` when the upstream never said how it
        ended, or said that it broke off.
        """
        if self._reason is None:
            raise NotUnderstood("the stream ended without a finish reason")
        if self._ended is None:
            raise NotUnderstood(f"the finish reason {self._reason[:64]!r}, which is not known for a good end")
        events = self._slots.close()
        reason = self._ended
        if reason in ("stop", "tool_calls"):
            reason = "tool_calls" if len(self._slots) else "stop"
        events.append(ModelEnded(reason, self._usage or Usage(), self._tier, self._model))
        return events

    def _read_choice(self, choice: Mapping[str, object]) -> list[ModelEvent]:
        delta, message = choice.get("delta"), choice.get("message")
        events = self._read_delta(delta, _logprobs(choice.get("logprobs"))) if isinstance(delta, dict) else []
        if events:
            self._in_deltas.update(map(type, events))
        if isinstance(
            message, dict
        ):  # all of an answer that was not streamed, or all that was streamed once more
            told = self._in_deltas
            unsaid = {
                name: value
                for name, value in message.items()
                if told.isdisjoint(_TOLD_BY.get(name, (ReasoningWritten,)))
            }
            events += self._read_delta(unsaid, _logprobs(choice.get("logprobs")))
        reason = choice.get("finish_reason")
        if isinstance(reason, dict):
            reason = reason.get("type")
        if isinstance(reason, str) and says_an_end(reason):
            self._ended = (
                meaning_of(reason) if self._reason is None else graver(self._ended, meaning_of(reason))
            )
            self._reason = reason
        return events

    def _read_delta(self, delta: Mapping[str, object], logprobs: tuple[JsonObject, ...]) -> list[ModelEvent]:
        if (
            len(delta) == 1 and not logprobs and isinstance(text := delta.get("content"), str)
        ):  # nearly every chunk
            return [TextWritten(text)] if text else []
        events: list[ModelEvent] = []
        # One and the same piece under two names is one piece.
        if reasoning := next((text for name in _REASONING if (text := _text(delta.get(name)))), ""):
            events.append(ReasoningWritten(reasoning))
        events += _content(delta.get("content"), logprobs, reasoned=bool(reasoning))
        if refusal := _text(delta.get("refusal")):
            events.append(RefusalWritten(refusal))
        if calls := delta.get("tool_calls"):
            events += self._slots.read(calls)
        elif call := delta.get("function_call"):
            events += self._slots.read([{"function": call}])
        return events


def _content(content: object, logprobs: tuple[JsonObject, ...], *, reasoned: bool) -> list[ModelEvent]:
    """Return what is written as content: a text, or parts, of which some are reasoning, unless that
    was told beside it already.
    """
    if not isinstance(content, list):
        text = _text(content)
        return [TextWritten(text, logprobs)] if text else []
    events: list[ModelEvent] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        text = _text([part])
        if not text:
            continue
        if isinstance(kind, str) and kind.startswith(_IS_REASONING):
            events += [] if reasoned else [ReasoningWritten(text)]
        elif kind == "refusal":
            events.append(RefusalWritten(text))
        else:
            events.append(TextWritten(text, logprobs))
            logprobs = ()
    return events


def _logprobs(value: object) -> tuple[JsonObject, ...]:
    """Return the log probabilities of a piece of text, in the Responses API's shape; what is none is
    left out.
    """
    content = _member(value, "content")
    if not isinstance(content, list):
        return ()
    return tuple(
        {
            **_token(entry),
            "top_logprobs": [_token(top) for top in entry.get("top_logprobs") or () if _is_token(top)],
        }
        for entry in content
        if _is_token(entry)
    )


def _is_token(value: object) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("token"), str)
        and isinstance(value.get("logprob"), int | float)
    )


def _token(value: Mapping[str, Json]) -> dict[str, Json]:
    given, logprob = value.get("bytes"), cast("float", value["logprob"])
    return {
        "token": value["token"],
        "logprob": logprob if math.isfinite(logprob) else _IMPOSSIBLE,
        "bytes": given if isinstance(given, list) else list(str(value["token"]).encode()),
    }


def _text(value: object) -> str:
    """Return the text of a text, or of parts, which hold theirs under a name of their own or in
    parts again.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_text(part) if isinstance(part, str) else _text_of_part(part) for part in value)
    return ""


def _text_of_part(part: object) -> str:
    if not isinstance(part, dict):
        return ""
    return next((text for name in _TEXTS if (text := _text(part.get(name)))), "")


def _member(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, dict) else None
