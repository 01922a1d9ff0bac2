"""What a model says in one turn, as a backend yields it: pieces, then how the turn ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from regate_orchestrator.errors import UpstreamError
from regate_orchestrator.values import JsonObject

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one model call; zero where the upstream said nothing."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.output_tokens + other.output_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


@dataclass(frozen=True, slots=True)
class TextWritten:
    """The model wrote a piece of its answer. `logprobs` are in the Responses API's shape, empty unless
    they were asked for.
    """

    text: str
    logprobs: tuple[JsonObject, ...] = ()


@dataclass(frozen=True, slots=True)
class ReasoningWritten:
    """The model wrote a piece of its reasoning, under whichever field name the upstream uses."""

    text: str


@dataclass(frozen=True, slots=True)
class RefusalWritten:
    """The model wrote a piece of a refusal."""

    text: str


@dataclass(frozen=True, slots=True)
class CallOpened:
    """The model began a tool call. `slot` tells calls of one model turn apart; the upstream's index is
    not to be trusted for that.
    """

    slot: int
    call_id: str
    name: str


@dataclass(frozen=True, slots=True)
class ArgumentsWritten:
    """The model wrote a piece of the arguments of an open call."""

    slot: int
    text: str


@dataclass(frozen=True, slots=True)
class ModelEnded:
    """The model turn is complete. `service_tier` is the tier, and `model` the model, that the upstream says
    it was served by, if it says so.
    """

    reason: FinishReason
    usage: Usage
    service_tier: str | None = None
    model: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ModelFailed:
    """The model turn broke off."""

    error: UpstreamError


ModelEvent: TypeAlias = (
    TextWritten | ReasoningWritten | RefusalWritten | CallOpened | ArgumentsWritten | ModelEnded | ModelFailed
)
"""What a backend yields."""
