"""The state of one response between two events, in parts: what was authorized, the context, the output and
the tools. A value: `machine.advance` and what it calls return new ones and change none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any

from regate_orchestrator.errors import RegateError
from regate_orchestrator.lineage import NOTHING_READ, Lineage
from regate_orchestrator.model_events import Usage
from regate_orchestrator.responses.context.sealing import NoSealer, Sealer
from regate_orchestrator.responses.output.emitter import (
    Emitter,
    Header,
    OpenCall,
    OpenMessage,
    OpenReasoning,
    Text,
)
from regate_orchestrator.responses.prompt import PromptItem
from regate_orchestrator.responses.request import ClientTool, Limits, ResponseRequest
from regate_orchestrator.responses.tools.passage import Citation, Passage
from regate_orchestrator.responses.tools.tool import ApprovedCall, ServerTool, ToolCall
from regate_orchestrator.rows import ResponseRow, StoredItem
from regate_orchestrator.upstream_capabilities import UpstreamCapabilities
from regate_orchestrator.values import Json, JsonObject


class Phase(Enum):
    """Where a response is. The diagram in docs/responses.md is made from `machine.TRANSITIONS`."""

    IDLE = auto()
    RECALLING = auto()
    AUTHORIZING = auto()
    LISTING = auto()
    QUEUEING = auto()
    READMITTING = auto()
    CALLING = auto()
    OPENING = auto()
    SUMMARIZING = auto()
    WRITING = auto()
    DECIDING = auto()
    RUNNING = auto()
    SAVING = auto()
    ENDED = auto()


@dataclass(frozen=True, slots=True)
class Output:
    """One output item as the client sees it, with what it rests on, and what it found itself."""

    body: JsonObject
    stored: JsonObject | None = None
    """The item as it is stored, where that is another: no reader sees by it what only this one asked for."""
    lineage: Lineage = NOTHING_READ
    passages: tuple[Passage, ...] = ()


@dataclass(frozen=True, slots=True)
class Ending:
    """How the response is about to end, while its final row is being saved. `event` is None when
    nobody is left to be told.
    """

    response: JsonObject
    row: ResponseRow
    event: str | None
    error: RegateError | None


@dataclass(frozen=True, slots=True)
class TurnState:
    """For whom the response is made, and what the turn was authorized for."""

    tenant: str = ""
    owner: str = ""
    upstream: str = ""
    alternates: tuple[str, ...] = ()
    capabilities: UpstreamCapabilities = field(default_factory=UpstreamCapabilities)
    max_output_tokens: int | None = None
    """The client's limit or the policy's, whichever is lower."""
    revision: str = ""
    hidden: frozenset[str] = frozenset()
    """The tools that the policy does not let the model see, by the names that it would call them by."""
    approvals: tuple[ApprovedCall, ...] = ()
    """The calls that the client approved and that were not made yet."""
    inputs: tuple[StoredItem, ...] = ()
    """What the client sent, as it is stored."""


@dataclass(frozen=True, slots=True)
class ContextState:
    """What the next model call reads."""

    history: tuple[PromptItem, ...] = ()
    prompted: tuple[PromptItem, ...] = ()
    """The request's items, and what this response has added to the prompt so far."""
    kept_apart: tuple[PromptItem, ...] = ()
    """While the conversation is being summarised: the turn being answered, which the summary does not
    stand for.
    """
    summary: Text | None = None
    """The summary being written; None when none is."""
    lineage: Lineage = NOTHING_READ
    """Everything of ours that is in the prompt."""
    sources: Mapping[int, Citation] = field(default_factory=dict)
    """Which passage each marker of the current prompt stands for."""


@dataclass(frozen=True, slots=True)
class OutputState:
    """What the client was told, and what is being written."""

    emitter: Emitter = field(default_factory=Emitter)
    opened: bool = False
    """Whether `response.created` was sent: before it a failure refuses the request, after it a failure
    is told in the stream.
    """
    begun: bool = False
    """Whether `response.in_progress` was sent: the backend has accepted a call."""
    items: tuple[Output, ...] = ()
    message: OpenMessage | None = None
    reasoning: OpenReasoning | None = None
    calls: Mapping[int, OpenCall] = field(default_factory=dict)
    """By the slot that the upstream's events name."""

    @property
    def bodies(self) -> tuple[JsonObject, ...]:
        """Return the output items as they stand."""
        return tuple(item.body for item in self.items)


@dataclass(frozen=True, slots=True)
class ToolsState:
    """The calls of tools that run here."""

    offered: Mapping[str, ServerTool] = field(default_factory=dict)
    """What the current model call may use, by the name that the model calls it by."""
    client: Mapping[str, ClientTool] = field(default_factory=dict)
    """The same of the client's tools."""
    opened: int = 0
    """How many calls of this response were announced."""
    unlisted: tuple[ServerTool, ...] = ()
    """The tools of which it is not known yet what they offer."""
    listed: tuple[JsonObject, ...] = ()
    """The items that tell what was listed, until they are announced."""
    trace: tuple[JsonObject, ...] = ()
    """The calls that ran before, in this response and in what it continues from, as policies see them."""
    pending: tuple[ToolCall, ...] = ()
    """Calls that are to be decided, or to be run, in their order; the first is the next to be closed."""


@dataclass(frozen=True, slots=True)
class State:
    """One response, from the request to its end."""

    phase: Phase = Phase.IDLE
    limits: Limits = field(default_factory=Limits)
    sealer: Sealer = field(default_factory=NoSealer)
    header: Header | None = None
    turn: TurnState = field(default_factory=TurnState)
    context: ContextState = field(default_factory=ContextState)
    output: OutputState = field(default_factory=OutputState)
    tools: ToolsState = field(default_factory=ToolsState)
    round: int = 0
    usage: Usage = field(default_factory=Usage)
    summary_tokens: int = 0
    ending: Ending | None = None

    @property
    def must_header(self) -> Header:
        """Return the header, which is there from the first event on."""
        # INVARIANT: set by Requested, which is the first event of every run
        assert self.header is not None  # noqa: S101
        return self.header

    @property
    def request(self) -> ResponseRequest:
        """Return what was asked for."""
        return self.must_header.request

    @property
    def spent(self) -> int:
        """Return the tokens written that count against `max_output_tokens`: a summary, which nobody
        asked to see, does not.
        """
        return self.usage.output_tokens - self.summary_tokens

    def with_context(self, **changes: Any) -> State:
        """Return the state with these changes of its context."""
        return replace(self, context=replace(self.context, **changes))

    def with_output(self, **changes: Any) -> State:
        """Return the state with these changes of its output."""
        return replace(self, output=replace(self.output, **changes))

    def with_tools(self, **changes: Any) -> State:
        """Return the state with these changes of its tools."""
        return replace(self, tools=replace(self.tools, **changes))

    def prompted(self, item: PromptItem) -> State:
        """Return the state in whose prompt the item comes next."""
        return self.with_context(prompted=(*self.context.prompted, item))

    def told(self, kind: str, **members: Json) -> State:
        """Return the state in which one more event is written."""
        return self.with_output(emitter=self.output.emitter.write(kind, **members))
