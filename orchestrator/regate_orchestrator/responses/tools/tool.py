"""A tool that runs here, as the loop sees it: its kind, what a request offers of it, a call, and what a call
came to.

A kind is one module in `kinds/`, a runner (`calls.py`), and its registration at the edge, which makes it
known. The machine, the assembler, the prompt, the history and the replay know no kind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final, TypeAlias

from regate_orchestrator.lineage import NOTHING_READ, Lineage, Source, labels_of
from regate_orchestrator.responses.tools.passage import Passage
from regate_orchestrator.responses.tools.view import UNKNOWN, tool_view
from regate_orchestrator.values import Json, JsonObject, StoreId

Told: TypeAlias = Sequence[tuple[str, JsonObject]]
"""Events about an item: their names below `response.`, and their own members."""

MAX_NUMBERS: Final = 32
"""Numbers among the arguments of a call that policies keep totals over; a call with more does not run."""


@dataclass(frozen=True, slots=True)
class Notes:
    """What the model is told of a call that brought nothing: of a policy no more than that it denied."""

    bad_arguments: str
    denied: str
    result_denied: str
    no_more: str


class ToolKind(ABC):
    """What holds for every tool of a kind, and for its items wherever they are met."""

    type: ClassVar[str]
    """The tool's type, in requests and before policies."""
    item_type: ClassVar[str]
    """The type of a call's item; its events are named after it."""
    id_prefix: ClassVar[str]
    """What the ids of its items begin with."""
    notes: ClassVar[Notes]
    """What the model is told of calls that brought nothing."""
    progress: ClassVar[str] = ""
    """The last word of the event that says that a call runs, such as `searching`; empty for none."""
    tells_failure: ClassVar[bool] = False
    """Whether a call that failed has an event of its own."""
    can_be_approved: ClassVar[bool] = False
    """Whether the client can be asked to approve a call."""
    is_counted: ClassVar[bool] = False
    """Whether policies are told how often the caller used the tool within a day."""
    is_announced_early: ClassVar[bool] = True
    """Whether a call is announced when the model begins to write it; else when it is decided."""

    reads_context: ClassVar[bool] = False
    """Whether what a call may do depends on what was said and found before it."""

    @abstractmethod
    def read(self, arguments: str) -> JsonObject | None:
        """Return what of the model's arguments is used; None when they were not understood."""

    @abstractmethod
    def item(self, call: ToolCall, status: str, result: ToolResult | None = None) -> JsonObject:
        """Return a call's item as it is stored."""

    @abstractmethod
    def called(self, item: JsonObject) -> tuple[str, Mapping[str, Json]]:
        """Return by which name, and with which arguments, the model made the call of an item."""

    def view(self, item: JsonObject) -> JsonObject:
        """Return the tool that an item's call was made of, as policies see it, without arguments. Nothing is
        known of what it may do.
        """
        return tool_view(self.type, self.type, annotations=UNKNOWN)

    def shown(self, item: JsonObject, passages: Sequence[Passage], include: Collection[str]) -> JsonObject:
        """Return a stored item as a reader sees it who asked for these parts beside the usual ones."""
        return item

    def told(self, item: JsonObject) -> Told:
        """Return the events that tell what the model asked for, once that is whole."""
        return ()

    def failed(self, text: str) -> JsonObject:
        """Return what the item of a call shows that failed, which the model is told in these words."""
        return {}

    def answer(self, item: JsonObject) -> str:
        """Return what the model reads of a stored call, beside its passages."""
        return ""

    def empty(self, item: JsonObject) -> JsonObject:
        """Return the item without what the model asked and what was found: as one that was just announced."""
        return item

    def withheld(self, item: JsonObject) -> JsonObject:
        """Return the item as who may no longer see what it rests on sees it."""
        return self.empty(item)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The context in which a call runs: what users said, the passages that tools found, and all that the
    context rests on.
    """

    said: Sequence[str] = ()
    passages: Sequence[Passage] = ()
    lineage: Lineage = NOTHING_READ


class ServerTool(ABC):
    """A tool that runs here, as one request offers it."""

    kind: ClassVar[ToolKind]
    echo: JsonObject
    """The tool as the Response shows it."""
    store_ids: tuple[StoreId, ...] = ()
    """The vector stores that it needs, which the turn's authorization opens."""

    @property
    @abstractmethod
    def functions(self) -> Mapping[str, JsonObject]:
        """What a model is offered, by the name that it calls it by."""

    def keeps(self, name: str) -> bool:
        """Return whether calls by this name are the tool's, whatever else is offered."""
        return name in self.functions

    @property
    def is_listed(self) -> bool:
        """Whether it is known what it offers; else its runner lists that before the model is called."""
        return True

    @property
    def is_deferred(self) -> bool:
        """Whether what it offers is offered once a search found it."""
        return False

    def called(self, name: str) -> JsonObject:
        """Return what a model calls by this name as policies see it, without arguments."""
        return tool_view(self.kind.type, name)

    def asks_first(self, name: str) -> bool:
        """Return whether the client wants to approve calls by this name."""
        return False

    def view(self, arguments: JsonObject) -> JsonObject:
        """Return a call's arguments as policies see them."""
        return arguments

    def within(self, surroundings: Surroundings) -> ServerTool:
        """Return the tool as a call of it runs in this context, where its kind reads the context."""
        return self


@dataclass(frozen=True, slots=True)
class Terms:
    """What the decision on a call obliges to."""

    max_result_bytes: int = 0
    """The largest result that may enter the prompt."""
    deadline_s: float | None = None
    labels: frozenset[str] = frozenset()
    """The labels that the result bears, beside those of what is in it."""
    redact: frozenset[str] = frozenset()
    """The members of a structured result whose values no one may see."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call whose turn has ended: to be decided, and to be run.

    `arguments` are None when they were not understood; `refusal` is what the model is told of a call that
    does not run. `index` is None until its item is announced.
    """

    tool: ServerTool
    name: str
    index: int | None
    item_id: str
    call_id: str
    arguments: JsonObject | None
    refusal: str = ""
    decided: bool = False
    """Whether it was permitted."""
    terms: Terms = field(default_factory=Terms)
    written: str = ""
    """The arguments as the model wrote them."""
    approval: str = ""
    """The approval by which it runs, or that is asked for."""
    is_held: bool = False
    """Whether it waits for the client's approval, in a later response."""

    def item(self, status: str, result: ToolResult | None = None) -> JsonObject:
        """Return the call's item in this status, as it is stored."""
        return self.tool.kind.item(self, status, result)


@dataclass(frozen=True, slots=True)
class ApprovedCall:
    """A call that the client approved, of a tool by the name that a model calls it by."""

    approval: str
    name: str
    written: str
    """The arguments as the model wrote them."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a call came to: what the model may read of it, and what of ours is in that.

    `passages` are decided each by itself at each use, `text` and `shown` only as a whole.
    """

    passages: tuple[Passage, ...] = ()
    size: int = 0
    """Bytes of text."""
    mime: str = "text/plain"
    text: str = ""
    """What the model reads, beside the passages."""
    shown: JsonObject = field(default_factory=dict)
    """What the call's item says of it."""
    rests_on: tuple[Source, ...] = ()
    """What `text` and `shown` rest on."""
    failed: bool = False
    """Whether the tool said that it failed; the model reads that."""
    call: JsonObject = field(default_factory=dict)
    """What the lineage and the audit say of how it ran: the identity that was shown."""

    @property
    def sources(self) -> tuple[Source, ...]:
        """Everything that is in the context once the model has read this."""
        return (*self.rests_on, *(passage.source for passage in self.passages))

    @property
    def labels(self) -> frozenset[str]:
        """The labels of all that is in it."""
        return labels_of(self.sources)


def numbers_in(arguments: JsonObject) -> JsonObject:
    """Return the numbers among the arguments, over which policies keep totals."""
    return {
        name: value
        for name, value in arguments.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
