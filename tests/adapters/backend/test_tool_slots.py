"""Habits of upstreams in streaming tool calls, each as the pieces it sends and the calls that must
come out.
"""

from __future__ import annotations

from typing import Any

import pytest

from regate_adapters.backend.stream.tool_slots import NotUnderstood, ToolSlots
from regate_orchestrator.model_events import ArgumentsWritten, CallOpened

Chunks = list[list[dict[str, Any]]]


def piece(
    index: int | None = None, identifier: str | None = None, name: str | None = None, arguments: Any = ""
) -> dict[str, Any]:
    members = {"index": index, "id": identifier, "function": {"name": name, "arguments": arguments}}
    return {key: value for key, value in members.items() if value is not None}


def calls(chunks: Chunks) -> list[tuple[str, str, str]]:
    """Return (id, name, arguments) of each call, `minted` standing for an id of ours."""
    slots, opened, written = ToolSlots(), {}, {}
    for event in [*(event for entries in chunks for event in slots.read(entries)), *slots.close()]:
        if isinstance(event, CallOpened):
            assert event.slot not in opened
            minted = event.call_id.startswith("call_") and len(event.call_id) > 40
            opened[event.slot] = ("minted" if minted else event.call_id, event.name)
            written[event.slot] = ""
        else:
            assert isinstance(event, ArgumentsWritten)
            written[event.slot] += event.text
    return [(*opened[slot], written[slot]) for slot in sorted(opened)]


TWO = [("a", "f", '{"x":1}'), ("b", "g", '{"y":2}')]

HABITS: dict[str, tuple[Chunks, list[tuple[str, str, str]]]] = {
    "as OpenAI documents it": (
        [
            [piece(0, "a", "f")],
            [piece(0, arguments='{"x"')],
            [piece(0, arguments=":1}")],
            [piece(1, "b", "g")],
            [piece(1, arguments='{"y":2}')],
        ],
        TWO,
    ),
    "calls interleaved by index": (
        [
            [piece(0, "a", "f"), piece(1, "b", "g")],
            [piece(1, arguments='{"y"')],
            [piece(0, arguments='{"x":1}')],
            [piece(1, arguments=":2}")],
        ],
        TWO,
    ),
    "index 0 on every call, whole arguments": (
        [[piece(0, "a", "f", '{"x":1}')], [piece(0, "b", "g", '{"y":2}')]],
        TWO,
    ),
    "index 0 on every call, arguments in pieces": (
        [
            [piece(0, "a", "f")],
            [piece(0, arguments='{"x":1}')],
            [piece(0, "b", "g")],
            [piece(0, arguments='{"y":'), piece(0, arguments="2}")],
        ],
        TWO,
    ),
    "no index, one call a chunk": (
        [[piece(None, "a", "f", '{"x":1}')], [piece(None, "b", "g", '{"y":2}')]],
        TWO,
    ),
    "no index, all calls in one chunk": (
        [[piece(None, "a", "f", '{"x":1}'), piece(None, "b", "g", '{"y":2}')]],
        TWO,
    ),
    "no index, pieces follow the last call": (
        [
            [piece(None, "a", "f")],
            [piece(arguments='{"x":1}')],
            [piece(None, "b", "g")],
            [piece(arguments='{"y"')],
            [piece(arguments=":2}")],
        ],
        TWO,
    ),
    "no index, pieces found by place": (
        [
            [piece(None, "a", "f"), piece(None, "b", "g")],
            [piece(arguments='{"x":1}'), piece(arguments='{"y":2}')],
        ],
        TWO,
    ),
    "no index, pieces found by id": (
        [
            [piece(None, "a", "f")],
            [piece(None, "b", "g")],
            [piece(None, "a", arguments='{"x":1}')],
            [piece(None, "b", arguments='{"y":2}')],
        ],
        TWO,
    ),
    "id null in later pieces": (
        [
            [piece(0, "a", "f")],
            [{"index": 0, "id": None, "type": None, "function": {"name": None, "arguments": '{"x":1}'}}],
        ],
        TWO[:1],
    ),
    "id empty in later pieces": ([[piece(0, "a", "f")], [piece(0, "", "", '{"x":1}')]], TWO[:1]),
    "id and name again in every piece": (
        [[piece(0, "a", "f", '{"x"')], [piece(0, "a", "f", ":1}")], [piece(0, "a", "f")]],
        TWO[:1],
    ),
    "another id in every piece": (
        [[piece(0, "a", "f", '{"x"')], [piece(0, "z", None, ":1}")], [piece(0, "y")]],
        TWO[:1],
    ),
    "id after the name": ([[piece(0, None, "f")], [piece(0, "a", arguments='{"x":1}')]], TWO[:1]),
    "name after the id": ([[piece(0, "a")], [piece(0, None, "f", '{"x":1}')]], TWO[:1]),
    "name after the arguments": ([[piece(0, "a", arguments='{"x"')], [piece(0, None, "f", ":1}")]], TWO[:1]),
    "no id at all": (
        [[piece(0, None, "f", '{"x":1}')], [piece(1, None, "g", '{"y":2}')]],
        [("minted", *TWO[0][1:]), ("minted", *TWO[1][1:])],
    ),
    "no id and no index at all": (
        [[piece(None, None, "f", '{"x":1}')], [piece(None, None, "f", '{"x":2}')]],
        [("minted", "f", '{"x":1}'), ("minted", "f", '{"x":2}')],
    ),
    "no id and index 0 always": (
        [[piece(0, None, "f", '{"x":1}')], [piece(0, None, "g", '{"y":2}')]],
        [("minted", "f", '{"x":1}'), ("minted", "g", '{"y":2}')],
    ),
    "no id, index 0 always, and a call without arguments first": (
        [[piece(0, None, "f")], [piece(0, None, "g", '{"y":2}')]],
        [("minted", "f", ""), ("minted", "g", '{"y":2}')],
    ),
    "one id for two calls": (
        [[piece(0, "a", "f", '{"x":1}')], [piece(1, "a", "g", '{"y":2}')]],
        [TWO[0], ("minted", *TWO[1][1:])],
    ),
    "one id and index 0 for two calls": (
        [[piece(0, "a", "f", '{"x":1}')], [piece(0, "a", "g", '{"y":2}')]],
        [TWO[0], ("minted", *TWO[1][1:])],
    ),
    "an id that is no id": ([[piece(0, "a b\n", "f", '{"x":1}')]], [("minted", *TWO[0][1:])]),
    "arguments as an object": ([[piece(0, "a", "f", {"x": 1})]], TWO[:1]),
    "no arguments": ([[piece(0, "a", "f")], [piece(1, "b", "g")]], [("a", "f", ""), ("b", "g", "")]),
    "no arguments and no id": ([[piece(0, None, "f")]], [("minted", "f", "")]),
    "an empty piece at the end": ([[piece(0, "a", "f", '{"x":1}')], [piece(1)]], TWO[:1]),
    "arguments once more at the end": (
        [
            [piece(0, "a", "f")],
            [piece(0, arguments='{"x"')],
            [piece(0, arguments=":1}")],
            [piece(0, arguments='{"x":1}')],
        ],
        TWO[:1],
    ),
    "arguments once more, written otherwise": (
        [[piece(0, "a", "f", '{"x":1}')], [piece(0, arguments='{ "x": 1 }')]],
        TWO[:1],
    ),
    "arguments once more, as an object": (
        [[piece(0, "a", "f", '{"x":1}')], [piece(0, arguments={"x": 1})]],
        TWO[:1],
    ),
    "the whole call once more at the end": (
        [
            [piece(0, "a", "f", '{"x":1}'), piece(1, "b", "g", '{"y":2}')],
            [piece(0, "a", "f", '{"x":1}'), piece(1, "b", "g", '{"y":2}')],
        ],
        TWO,
    ),
    "the whole call once more, without an index": (
        [[piece(None, "a", "f", '{"x":1}')], [piece(None, "a", "f", '{"x":1}')]],
        TWO[:1],
    ),
    "nested braces do not end a call": (
        [[piece(0, None, "f", '{"x":{"y":{}}')], [piece(0, None, "f", ',"z":1}')]],
        [("minted", "f", '{"x":{"y":{}},"z":1}')],
    ),
}


@pytest.mark.parametrize("habit", HABITS)
def test_calls_come_out_whole_whatever_the_upstreams_habit(habit: str) -> None:
    chunks, expected = HABITS[habit]
    assert calls(chunks) == expected


def test_call_is_announced_before_the_next_one_begins() -> None:
    slots = ToolSlots()
    slots.read([piece(0, None, "f")])
    first, second = slots.read([piece(1, "b", "g")])
    assert isinstance(first, CallOpened)
    assert isinstance(second, CallOpened)
    assert (first.slot, second.slot) == (0, 1)


def test_arguments_are_handed_on_as_they_come() -> None:
    slots = ToolSlots()
    slots.read([piece(0, "a", "f")])
    assert slots.read([piece(0, arguments='{"x"')]) == [ArgumentsWritten(0, '{"x"')]


@pytest.mark.parametrize(
    "entries",
    ["text", {"index": 0}, ["text"], [{"function": {"name": "f", "arguments": 5}}]],
)
def test_what_is_no_list_of_calls_is_refused(entries: Any) -> None:
    with pytest.raises(NotUnderstood):
        ToolSlots().read(entries)


def test_arguments_without_a_name_are_refused_at_the_end() -> None:
    slots = ToolSlots()
    slots.read([piece(0, "a", arguments="{}")])
    with pytest.raises(NotUnderstood):
        slots.close()


def test_number_of_calls_is_bounded() -> None:
    slots = ToolSlots()
    with pytest.raises(NotUnderstood):
        slots.read([piece(index, f"id{index}", "f") for index in range(1_000)])
