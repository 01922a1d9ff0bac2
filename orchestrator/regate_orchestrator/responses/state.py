"""The state of one response between two events. A value: `machine.advance` and
`responses/output/assembler.py` return new ones and change none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from regate_orchestrator.errors import RegateError
from regate_orchestrator.lineage import NOTHING_READ, Lineage
from regate_orchestrator.responses.context.sealing import NoSealer, Sealer
from regate_orchestrator.responses.events import Usage
from regate_orchestrator.responses.output.emitter import (
    Emitter,
    Header,
    OpenCall,
    OpenMessage,
    OpenReasoning,
    Text,
)
from regate_orchestrator.responses.prompt import Passage, PromptItem
from regate_orchestrator.responses.request import Limits
from regate_orchestrator.rows import ResponseRow, StoredItem
from regate_orchestrator.upstream_capabilities import UpstreamCapabilities
from regate_orchestrator.values import FileId, JsonObject


class Phase(Enum):
    """Where a response is. The diagram in docs/responses.md is made from `machine.TRANSITIONS`."""

    IDLE = auto()
    RECALLING = auto()
    AUTHORIZING = auto()
    QUEUEING = auto()
    READMITTING = auto()
    CALLING = auto()
    OPENING = auto()
    SUMMARIZING = auto()
    WRITING = auto()
    DECIDING = auto()
    SEARCHING = auto()
    SAVING = auto()
    ENDED = auto()


@dataclass(frozen=True, slots=True)
class PendingSearch:
    """A `file_search` call to run: where its item is, and what the model asked (None when its
    arguments were not understood).
    """

    index: int
    item_id: str
    call_id: str
    query: str | None


@dataclass(frozen=True, slots=True)
class Output:
    """One output item as it stands, with what it rests on, and what it found itself."""

    body: JsonObject
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
class State:
    """One response, from the request to its end."""

    phase: Phase = Phase.IDLE
    limits: Limits = field(default_factory=Limits)
    header: Header | None = None
    tenant: str = ""
    owner: str = ""
    upstream: str = ""
    alternates: tuple[str, ...] = ()
    capabilities: UpstreamCapabilities = field(default_factory=UpstreamCapabilities)
    max_output_tokens: int | None = None
    """The client's limit or the policy's, whichever is lower."""
    revision: str = ""
    sealer: Sealer = field(default_factory=NoSealer)
    hidden: frozenset[str] = frozenset()
    emitter: Emitter = field(default_factory=Emitter)
    opened: bool = False
    """Whether `response.created` was sent: before it a failure refuses the request, after it a failure
    is told in the stream.
    """
    begun: bool = False
    """Whether `response.in_progress` was sent: the backend has accepted a call."""
    inputs: tuple[StoredItem, ...] = ()
    """What the client sent, as it is stored."""
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
    sources: Mapping[int, tuple[FileId, str]] = field(default_factory=dict)
    """Which passage each marker of the current prompt stands for."""
    outputs: tuple[Output, ...] = ()
    message: OpenMessage | None = None
    reasoning: OpenReasoning | None = None
    calls: Mapping[int, OpenCall] = field(default_factory=dict)
    searches: tuple[PendingSearch, ...] = ()
    """Still to be run, the current one first."""
    searches_opened: int = 0
    searching_offered: bool = False
    round: int = 0
    usage: Usage = field(default_factory=Usage)
    summary_tokens: int = 0
    ending: Ending | None = None

    @property
    def must_header(self) -> Header:
        """Return the heading, which is there from the first event on."""
        # INVARIANT: set by Requested, which is the first event of every run
        assert self.header is not None  # noqa: S101
        return self.header

    @property
    def spent(self) -> int:
        """Return the tokens written that count against `max_output_tokens`: a summary, which nobody
        asked to see, does not.
        """
        return self.usage.output_tokens - self.summary_tokens

    @property
    def bodies(self) -> tuple[JsonObject, ...]:
        """Return the output items as they stand."""
        return tuple(output.body for output in self.outputs)
