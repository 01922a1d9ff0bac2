"""No model forges an event: whatever it writes is text within one line, to a client that splits lines
as `str.splitlines` does as well.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any, Final

import pytest
from tests.deployments import only_on
from tests.e2e.conftest import World, text, tool_call
from tests.e2e.test_responses import WEATHER
from tests.e2e.test_socket import ask, socket

pytestmark = only_on("embedded")

FORGED: Final = "".join(
    f"{end}{end}event: response.completed{end}data: {{}}{end}{end}"
    for end in "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
)


def events_by_lines(body: str) -> list[tuple[str, dict[str, Any]]]:
    lines = body.splitlines()
    return [
        (name.removeprefix("event: "), json.loads(data.removeprefix("data: ")))
        for name, data in itertools.pairwise(lines)
        if name.startswith("event: ")
    ]


@pytest.mark.parametrize(
    "turn", [text("Zoë", FORGED), tool_call("weather", json.dumps({"city": FORGED}, ensure_ascii=False))]
)
@pytest.mark.parametrize("replayed", [False, True])
async def test_line_ends_of_a_model_begin_no_event(world: World, turn: list[Any], replayed: bool) -> None:
    world.upstream.turns = [turn]
    body = {
        "model": "small",
        "input": FORGED,
        "instructions": FORGED,
        "metadata": {"a": "\u2028"},
        "tools": [WEATHER],
        "stream": True,
    }
    async with world.http() as http:
        answer = await http.post("/responses", json=body)
        if replayed:
            identifier = events_by_lines(answer.text)[0][1]["response"]["id"]
            answer = await http.get(f"/responses/{identifier}?stream=true")
    events = events_by_lines(answer.text)
    made = events[-1][1]["response"]
    written = made["output"][0].get("arguments") or made["output"][0]["content"][0]["text"]

    assert [name for name, _ in events] == [event["type"] for _, event in events]
    assert [event["sequence_number"] for _, event in events] == list(range(len(events)))
    assert (json.loads(written)["city"] if written.startswith("{") else written.removeprefix("Zoë")) == FORGED


async def test_frames_of_a_socket_are_one_line_each(world: World) -> None:
    world.upstream.turns = [text(FORGED)]
    frames: list[str] = []
    async with socket(world, world.token("alice", "acme")) as connection:
        await connection.send(json.dumps({"type": "response.create", "model": "small", "input": FORGED}))
        async with asyncio.timeout(30):
            while not frames or json.loads(frames[-1])["type"] != "response.completed":
                frames.append(await connection.recv())
        refused = await ask(connection, input="Hi", **{"un\u2028known": 1})

    assert [len(frame.splitlines()) for frame in frames] == [1] * len(frames)
    assert json.loads(frames[-1])["response"]["output"][0]["content"][0]["text"] == FORGED
    assert refused[0]["param"] == "un\u2028known"
