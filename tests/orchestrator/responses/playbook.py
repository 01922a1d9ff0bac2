"""A playbook: a scripted conversation with the machine, events in and commands out, and checks that
every event stream must pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from regate_orchestrator.filters.expression import ALWAYS
from regate_orchestrator.lineage import NOTHING_READ, ChunkSource
from regate_orchestrator.responses.commands import AuthorizeTurn, Command, DecideContext, Emit, Save
from regate_orchestrator.responses.events import (
    ContextDecided,
    Event,
    ModelOpened,
    Requested,
    Saved,
    TurnAuthorized,
)
from regate_orchestrator.responses.machine import advance
from regate_orchestrator.responses.prompt import PromptItem
from regate_orchestrator.responses.request import ClientTool, Limits, ResponseRequest
from regate_orchestrator.responses.state import State
from regate_orchestrator.responses.tools.kinds.file_search import FileSearchTool
from regate_orchestrator.responses.tools.passage import Passage
from regate_orchestrator.rows import StoredItem
from regate_orchestrator.values import FileId, ResponseId, StoreId

NOW = 1_800_000_000
SEARCH = FileSearchTool(
    (StoreId("vs_1"),), 5, 0.0, ALWAYS, {"type": "file_search", "vector_store_ids": ["vs_1"]}
)
WEATHER = ClientTool("weather", "Tells the weather.", {"type": "object"}, strict=True)


def request(**changes: Any) -> ResponseRequest:
    message = {
        "id": "msg_in",
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "How many days of leave?"}],
    }
    return ResponseRequest(**({"model": "m", "items": (message,)} | changes))


def searchable(**changes: Any) -> ResponseRequest:
    """A request with `file_search`."""
    return request(server_tools=(SEARCH,), **changes)


def passage(number: int = 1, *, text: str = "Everyone has 28 days of leave.") -> Passage:
    source = ChunkSource(
        StoreId("vs_1"),
        FileId(f"file-{number}"),
        f"acme/file-{number}/000000",
        {"tenant": "acme", "labels": []},
    )
    return Passage(source, f"leave-{number}.md", text, 0.9, {})


def authorized(
    asked: ResponseRequest, *, history: Sequence[PromptItem] = (), **changes: Any
) -> TurnAuthorized:
    """The turn of a request whose items are all the client's own, everything allowed."""
    sent = tuple(PromptItem(item) for item in asked.items)
    inputs = tuple(StoredItem(str(item["id"]), item, "input") for item in asked.items)
    return replace(TurnAuthorized("upstream", "rev", tuple(history), sent, inputs, NOTHING_READ), **changes)


class Playbook:
    """Feeds events to one machine and keeps every command. Answers saves and the context's decisions,
    so that a test says only what matters.
    """

    def __init__(self, asked: ResponseRequest | None = None, *, limits: Limits | None = None) -> None:
        self.state = State(limits=limits or Limits())
        self.commands: list[Command] = []
        self.request = asked or request()
        self.context: ContextDecided | None = ContextDecided()
        """What is answered when the context is to be decided again; None where the test answers itself."""

    def begin(self) -> Playbook:
        """Go as far as the first model event."""
        self.tell(Requested(self.request, ResponseId("resp_1"), "acme", "alice"))
        assert isinstance(self.commands[-1], AuthorizeTurn)
        self.tell(authorized(self.request))
        return self.tell(ModelOpened())

    def tell(self, *events: Event) -> Playbook:
        for event in events:
            self.state, commands = advance(self.state, event, NOW)
            self.commands.extend(commands)
            match commands:
                case [*_, Save()]:
                    self.tell(Saved())
                case [*_, DecideContext()] if self.context is not None:
                    self.tell(self.context)
        return self

    def of(self, kind: type[Any]) -> list[Any]:
        return [command for command in self.commands if isinstance(command, kind)]

    @property
    def events(self) -> list[Any]:
        return [command.event for command in self.commands if isinstance(command, Emit)]

    @property
    def kinds(self) -> list[str]:
        return [event["type"] for event in self.events]


def check_stream(events: Iterable[Any]) -> None:
    """Assert what holds for every complete stream: one lifecycle, gapless numbers, stable ids, closed
    items, output as streamed.
    """
    events = list(events)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    kinds = [event["type"] for event in events]
    assert [kind for kind in kinds[:3] if kind != "response.queued"][:2] == [
        "response.created",
        "response.in_progress",
    ]
    assert kinds[-1] in ("response.completed", "response.incomplete", "response.failed")
    assert (
        sum(
            kind in ("response.created", "response.completed", "response.incomplete", "response.failed")
            for kind in kinds
        )
        == 2
    )
    assert len({event["response"]["id"] for event in events if "response" in event}) == 1
    added = {
        event["output_index"]: event["item"]
        for event in events
        if event["type"] == "response.output_item.added"
    }
    done = {
        event["output_index"]: event["item"]
        for event in events
        if event["type"] == "response.output_item.done"
    }
    assert list(added) == list(range(len(added)))
    assert {index: item["id"] for index, item in added.items()} == {
        index: item["id"] for index, item in done.items()
    }
    assert [done[index] for index in range(len(done))] == list(events[-1]["response"]["output"])
    texts: dict[str, str] = {}
    for event in events:
        if event["type"] == "response.output_text.delta":
            texts[event["item_id"]] = texts.get(event["item_id"], "") + event["delta"]
        if event["type"] == "response.output_text.done":
            assert texts.get(event["item_id"], "") == event["text"]
    check_parts(events)
    opened = False
    for index in added:
        span = [event for event in events if event.get("output_index") == index]
        assert span[0]["type"] == "response.output_item.added"
        assert span[-1]["type"] == "response.output_item.done"
        opened = True
    assert opened == bool(added)


DELTAS = {
    "response.output_text": "content_index",
    "response.refusal": "content_index",
    "response.reasoning_text": "content_index",
    "response.reasoning_summary_text": "summary_index",
}


def check_parts(events: Iterable[Any]) -> None:
    """Assert that whatever is written is written into a part that was added and is done later, as
    clients put items together.
    """
    written: dict[tuple[str, str, int], str] = {}
    finished: set[tuple[str, str, int]] = set()
    for event in events:
        stem, _, last = event["type"].rpartition(".")
        place = DELTAS.get(stem) or (
            "summary_index" if "summary_part" in stem else "content_index" if stem.endswith("_part") else None
        )
        if place is None:
            continue
        part = event["item_id"], place, event[place]
        match last:
            case "added" if stem.endswith("_part"):
                assert part not in written
                assert event["part"].get("text", event["part"].get("refusal")) == ""
                written[part] = ""
            case "delta":
                assert part not in finished
                written[part] += event["delta"]
            case "done" if stem.endswith("_part"):
                assert part not in finished
                assert event["part"].get("text", event["part"].get("refusal")) == written[part]
                finished.add(part)
            case "done":
                assert part not in finished
                assert event.get("text", event.get("refusal")) == written[part]
            case _:
                pass
    assert finished == set(written)
