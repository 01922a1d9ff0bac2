"""A tool that runs here, as the loop sees it: its kind, what a request offers of it, a call, and what a call
came to.

A kind is one module beside this one, a line in `kinds.py`, and a runner (`calls.py`) that composition
registers under its type. The machine, the assembler, the prompt, the history and the replay know no kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from regate_orchestrator.lineage import Source, labels_of
from regate_orchestrator.responses.tools.passage import Passage
from regate_orchestrator.values import Json, JsonObject, StoreId


@dataclass(frozen=True, slots=True)
class Notes:
    """What the model is told of a call that brought nothing: of a policy no more than that it denied."""

    bad_arguments: str
    denied: str
    result_denied: str
    no_more: str


class ToolKind(Protocol):
    """What holds for every tool of a kind, and for its items wherever they are met."""

    @property
    def type(self) -> str:
        """The tool's type, in requests and before policies."""

    @property
    def item_type(self) -> str:
        """The type of a call's item; its events are named after it."""

    @property
    def id_prefix(self) -> str:
        """What the ids of its items begin with."""

    @property
    def progress(self) -> str:
        """The last word of the event that says that a call runs, such as `searching`."""

    @property
    def notes(self) -> Notes:
        """What the model is told of calls that brought nothing."""

    def read(self, arguments: str) -> JsonObject | None:
        """Return what of the model's arguments is used; None when they were not understood."""

    def item(
        self, item_id: str, status: str, arguments: JsonObject | None, results: list[JsonObject] | None
    ) -> JsonObject:
        """Return a call's item. `results` is None unless the client asked for them."""

    def called(self, item: JsonObject) -> tuple[str, Mapping[str, Json]]:
        """Return by which name, and with which arguments, the model made the call of an item."""

    def empty(self, item: JsonObject) -> JsonObject:
        """Return the item without what the model asked and what was found: as one that was just announced."""

    def withheld(self, item: JsonObject) -> JsonObject:
        """Return the item as who may no longer see what it rests on sees it."""


class ServerTool(Protocol):
    """A tool that runs here, as one request offers it."""

    @property
    def kind(self) -> ToolKind:
        """Its kind."""

    @property
    def echo(self) -> JsonObject:
        """The tool as the Response shows it."""

    @property
    def store_ids(self) -> tuple[StoreId, ...]:
        """The vector stores that it needs, which the turn's authorization opens."""

    @property
    def functions(self) -> Mapping[str, JsonObject]:
        """What a model is offered, by the name that it calls it by."""

    def view(self, arguments: JsonObject) -> JsonObject:
        """Return a call's arguments as policies see them."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call whose item was announced: to be decided, and to be run.

    `arguments` are None when they were not understood; `refusal` is what the model is told of a call that
    does not run.
    """

    tool: ServerTool
    name: str
    index: int
    item_id: str
    call_id: str
    arguments: JsonObject | None
    refusal: str = ""
    decided: bool = False
    """Whether it was permitted."""
    max_result_bytes: int = 0
    """The largest result that the decision admits."""

    def item(self, status: str, results: list[JsonObject] | None = None) -> JsonObject:
        """Return the call's item in this status."""
        return self.tool.kind.item(self.item_id, status, self.arguments, results)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a call found: what the model may read of it, and what of ours is in that."""

    passages: tuple[Passage, ...] = ()
    size: int = 0
    """Bytes of text."""
    mime: str = "text/plain"

    @property
    def sources(self) -> tuple[Source, ...]:
        """Everything that is in the context once the model has read this."""
        return tuple(passage.source for passage in self.passages)

    @property
    def labels(self) -> frozenset[str]:
        """The labels of all that is in it."""
        return labels_of(self.sources)
