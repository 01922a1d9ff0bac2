"""Events: what has happened, in past participles, told to the machine. Their counterpart is
`commands.py`; each reply names its command.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from regate_orchestrator.errors import RegateError, UpstreamError
from regate_orchestrator.lineage import Lineage, SourceKey
from regate_orchestrator.responses.prompt import Passage, PromptItem
from regate_orchestrator.responses.request import Limits, ResponseRequest
from regate_orchestrator.rows import ItemWithParent, StoredItem
from regate_orchestrator.upstream_capabilities import UpstreamCapabilities
from regate_orchestrator.values import JsonObject, ResponseId

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
    """The model turn is complete. `service_tier` is the tier that the upstream says it was served in,
    if it says so.
    """

    reason: FinishReason
    usage: Usage
    service_tier: str | None = None


@dataclass(frozen=True, slots=True)
class ModelFailed:
    """The model turn broke off."""

    error: UpstreamError


ModelEvent: TypeAlias = (
    TextWritten | ReasoningWritten | RefusalWritten | CallOpened | ArgumentsWritten | ModelEnded | ModelFailed
)
"""What a backend yields."""


# ---------------------------------------------------------------- what the driver reports


@dataclass(frozen=True, slots=True)
class Requested:
    """A client asked for a response. The first event of every run."""

    request: ResponseRequest
    response_id: ResponseId
    tenant: str
    owner: str


@dataclass(frozen=True, slots=True)
class Recalled:
    """What came before was found (answers `Recall`). Nothing of it is decided yet.

    `earlier` are the items of the chain or the conversation, oldest first; `status` is that of the response
    continued from; `referenced` are the items that the request names by id.
    """

    earlier: tuple[ItemWithParent, ...] = ()
    status: str | None = None
    referenced: Mapping[str, ItemWithParent] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class QuotaGranted:
    """What the caller may spend was decided (while `AuthorizeTurn` is): the request and the loop's
    limits are narrowed to it.
    """

    request: ResponseRequest
    limits: Limits


@dataclass(frozen=True, slots=True)
class TurnAuthorized:
    """Route, model, stores, files and history were decided (answers `AuthorizeTurn`).

    `history` is what may be used again and `sent` what the client sends now, both ready for a prompt;
    `inputs` is the latter as it is stored. `hidden` are the tools, by wire name, that the policy does not let
    the model see.
    """

    upstream: str
    revision: str
    history: tuple[PromptItem, ...]
    sent: tuple[PromptItem, ...]
    inputs: tuple[StoredItem, ...]
    lineage: Lineage
    hidden: frozenset[str] = frozenset()
    capabilities: UpstreamCapabilities = field(default_factory=UpstreamCapabilities)
    """What the upstream takes."""
    alternates: tuple[str, ...] = ()
    """Upstreams that may be asked while the first cannot be reached."""
    max_output_tokens: int | None = None
    """The most that policy lets the answer be, whatever the client asked for."""


@dataclass(frozen=True, slots=True)
class ContextDecided:
    """What is in the context was decided again (answers `DecideContext`): these items and sources may
    not be used any more.
    """

    denied_items: frozenset[str] = frozenset()
    denied: frozenset[SourceKey] = frozenset()


@dataclass(frozen=True, slots=True)
class ModelOpened:
    """The upstream accepted the call (answers `CallModel`): from here on a failure is told in the stream."""


@dataclass(frozen=True, slots=True)
class ToolDecided:
    """The tool call was decided (answers `DecideTool`)."""

    call_id: str
    allowed: bool


@dataclass(frozen=True, slots=True)
class Searched:
    """The search ended (answers `RunSearch`); the passages are admitted. `admitted` is False when the
    result as a whole was denied.
    """

    call_id: str
    passages: tuple[Passage, ...]
    admitted: bool


@dataclass(frozen=True, slots=True)
class Saved:
    """The row is durable (answers `Save`)."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A command failed, for a reason that is the caller's, a dependency's or the backend's. Ends the run."""

    error: RegateError


@dataclass(frozen=True, slots=True)
class ClientLeft:
    """The client went away, or the gateway is shutting down. Ends the run."""


Decided: TypeAlias = QuotaGranted | TurnAuthorized | ContextDecided | ToolDecided
Event: TypeAlias = (
    ModelEvent | Requested | Recalled | Decided | ModelOpened | Searched | Saved | Failed | ClientLeft
)
