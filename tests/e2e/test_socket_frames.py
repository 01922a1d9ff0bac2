"""Frames that hold no request: each is answered with an error frame, and the connection goes on."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from tests.deployments import only_on
from tests.e2e.conftest import World, text
from tests.e2e.test_socket import answer, ask, socket

pytestmark = only_on("embedded")

REFUSED: Final[dict[str, str | bytes]] = {
    "binary": b"\x00\x01",
    "binary JSON": b'{"type": "response.create", "model": "small", "input": "Hi"}',
    "empty binary": b"",
    "empty": "",
    "no JSON": "hello",
    "a number": "1",
    "a string": '"x"',
    "null": "null",
    "cut short": '{"type": "response.create"',
    "two objects": "{}{}",
    "a NUL": '{"type": "response.create", "model": "small", "input": "\\u0000"}',
    "a lone surrogate": '{"type": "response.create", "model": "small", "input": "\\ud800"}',
    "not a number": '{"type": "response.create", "model": "small", "input": "x", "top_p": NaN}',
    "nested": '{"type": "response.create", "a": ' + "[" * 5_000 + "]" * 5_000 + "}",
    "a type that is none": '{"type": 1}',
    "large": '{"type": "response.create", "x": "' + "x" * 400_000 + '"}',
}


async def test_frame_without_a_request_is_refused_and_the_connection_lives(world: World) -> None:
    found: dict[str, tuple[Any, Any]] = {}
    async with socket(world, world.token("alice", "acme")) as connection:
        for name, sent in REFUSED.items():
            await connection.send(sent)
            refused = await answer(connection)
            found[name] = (refused[0]["type"], refused[0]["status"])
        world.upstream.turns = [text("Fine.")]
        fine = await ask(connection, input="Hi")

    assert found == dict.fromkeys(REFUSED, ("error", 400))
    assert fine[-1]["type"] == "response.completed"


@pytest.mark.parametrize("binary", [False, True])
async def test_message_in_fragments_is_one_message(world: World, binary: bool) -> None:
    world.upstream.turns = [text("Fine.")]
    body = json.dumps(
        {"type": "response.create", "model": "small", "input": "Zoë"}, ensure_ascii=False
    ).encode()
    async with socket(world, world.token("alice", "acme")) as connection:
        await connection.send((bytes([byte]) for byte in body), text=not binary)
        frames = await answer(connection)

    assert frames[-1]["type"] == ("error" if binary else "response.completed")
