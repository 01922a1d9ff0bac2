"""A kind of tools that the client runs, as the rest of the loop sees it: its items, and how what a model
writes becomes one and goes back to a model.

A kind is a class in this folder and a line in `table.py`. The machine, the assembler, the prompt, the
history, the guards and the replay know no kind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Final, cast

from regate_orchestrator.guards.places import Place
from regate_orchestrator.responses.tools.tool import Told
from regate_orchestrator.responses.tools.view import UNKNOWN, tool_view
from regate_orchestrator.responses.tools.wire import wire_name
from regate_orchestrator.values import JsonObject

WITHHELD: Final = "[This earlier answer was withheld: it rests on content that is no longer available.]"
"""What stands in the place of a text that may not be used any more."""


class ClientKind(ABC):
    """What holds for every tool of a kind, and for its items wherever they are met."""

    type: ClassVar[str]
    """The tool's type. Where the client names no tools of the kind, models and policies know them by it."""
    item_type: ClassVar[str]
    """The type of a call's item."""
    output_type: ClassVar[str]
    """The type of the item in which the client says what a call came to."""
    id_prefix: ClassVar[str]
    """What the ids of calls begin with."""
    output_prefix: ClassVar[str]
    """What the ids of outputs begin with."""
    is_named: ClassVar[bool] = False
    """Whether the client names its tools of this kind."""
    is_announced_early: ClassVar[bool] = False
    """Whether a call is announced when the model begins to write it; else when it is whole, and fits."""
    streamed: ClassVar[str] = ""
    """The event, below `response.`, that hands on arguments as they are written; empty for none."""
    is_answered_here: bool = False
    """Whether the loop itself answers a call, so that no output of the client's follows."""
    result_mime: ClassVar[str] = "text/plain"
    """What an output is, before policies."""

    @abstractmethod
    def members(self, written: str) -> JsonObject | None:
        """Return what a call's item says of the arguments that a model wrote; None where they do not fit."""

    @abstractmethod
    def arguments(self, item: JsonObject) -> str:
        """Return the arguments with which a model made the call of an item."""

    @abstractmethod
    def told(self, item: JsonObject) -> Told:
        """Return the events that tell what the model asked for, once that is whole."""

    @abstractmethod
    def empty(self, item: JsonObject) -> JsonObject:
        """Return the item without what the model asked for, as one that was just announced."""

    @abstractmethod
    def places(self, item: JsonObject) -> Sequence[Place]:
        """Return where the texts of a call are."""

    @abstractmethod
    def output_text(self, item: JsonObject) -> str:
        """Return what a model reads of an output, beside its images."""

    @abstractmethod
    def withheld_output(self, item: JsonObject) -> JsonObject:
        """Return an output without what the client said in it."""

    def output_parts(self, item: JsonObject) -> Sequence[JsonObject]:
        """Return the parts of an output that has more than text."""
        return ()

    def output_places(self, item: JsonObject) -> Sequence[Place]:
        """Return where the texts of an output are, of one that is not in parts."""
        return [("output",)] if isinstance(item.get("output"), str) else []

    def blocked_output(self, item: JsonObject) -> JsonObject:
        """Return an output that guards blocked, in whose text a word about that stands already."""
        return item

    def withheld(self, item: JsonObject) -> JsonObject:
        """Return the item as who may no longer see what it rests on sees it."""
        return self.empty(item)

    def called(self, item: JsonObject) -> str:
        """Return by which name a model made the call of an item."""
        if not self.is_named:
            return self.type
        return wire_name(cast("str", item["name"]), cast("str | None", item.get("namespace")))

    def view(self, wire: str) -> JsonObject:
        """Return a tool of the kind as policies see it. It may do whatever a model asks for."""
        return tool_view(self.type, wire, annotations=UNKNOWN)
