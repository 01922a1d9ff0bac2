"""The protocol's own example server, another implementation (TypeScript). `make clients` installs it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.mcp.conftest import World

from regate_adapters.opa.engine import OpaEngine

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / ".tools/clients-node/node_modules/@modelcontextprotocol/server-everything/dist/index.js"
NODE = shutil.which("node")


@pytest.fixture(scope="module", params=["streamableHttp", "sse"])
def everything(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    if NODE is None or not SCRIPT.exists():
        pytest.skip("no Node, or no server-everything: `make clients` installs it")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"PORT": str(port)}
    with subprocess.Popen(
        [NODE, SCRIPT, request.param], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            _await_port(port, process)
            older = request.param == "sse"
            path = "sse" if older else "mcp"
            yield {"url": f"http://mcp.test:{port}/{path}", "transport": "sse" if older else "http"}
        finally:
            process.terminate()


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < ends
            time.sleep(0.05)
        else:
            return


async def test_it_is_listed_and_called(engine: OpaEngine, everything: dict[str, Any]) -> None:
    world = World(engine, {"s": everything})

    names = {one.name for one in await world.tools()}
    said = await world.call("echo", {"message": "hello"})
    added = await world.call("get-sum", {"a": 2, "b": 3})

    assert {"echo", "get-sum"} <= names
    assert (said.error, said.text) == (None, "Echo: hello")
    assert "5" in added.text


async def test_what_it_has_beside_text_becomes_notes(engine: OpaEngine, everything: dict[str, Any]) -> None:
    outcome = await World(engine, {"s": everything}).call("get-tiny-image")

    assert "[image: image/png, " in outcome.text


async def test_its_long_operation_ends_at_the_deadline(engine: OpaEngine, everything: dict[str, Any]) -> None:
    outcome = await World(engine, {"s": everything}).call(
        "trigger-long-running-operation", {"duration": 30, "steps": 300}, deadline_s=1.5
    )

    assert outcome.error is not None
    assert outcome.error["code"] == 504


async def test_arguments_that_do_not_fit_are_an_error(engine: OpaEngine, everything: dict[str, Any]) -> None:
    outcome = await World(engine, {"s": everything}).call("get-sum", {"a": "x"})

    assert outcome.is_error
