"""Servers of the official SDK, over both transports: listed, called, cancelled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import SamplingMessage, TextContent, ToolAnnotations
from tests.adapters.backend.conftest import Exchange, ScriptedUpstream
from tests.adapters.mcp.conftest import World, sdk_server, speaking

from regate_adapters.opa.engine import OpaEngine
from regate_orchestrator.ports import Annotations

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Bench(MCPServer):
    """A server with one tool of each sort, that notes what became of the slow one."""

    def __init__(self) -> None:
        super().__init__("bench", version="1")
        self.calls: list[str] = []
        self.add_tool(self.add, annotations=ToolAnnotations(read_only_hint=True, title="Add"))
        for one in (self.fail, self.picture, self.slow, self.ask, self.table, self.busy):
            self.add_tool(one)

    async def add(self, a: int, b: int) -> str:
        """Add two numbers."""
        self.calls.append("add")
        return str(a + b)

    async def fail(self) -> str:
        """Fail."""
        raise ToolError("there is no such customer")

    async def picture(self) -> Image:
        """Draw."""
        return Image(data=b"\x89PNG" + b"\0" * 96, format="png")

    async def slow(self) -> str:
        """Take for ever."""
        self.calls.append("slow")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.calls.append("cancelled")
            raise
        return "late"

    async def busy(self, ctx: Context) -> str:
        """Tell of progress for ever."""
        for step in range(10_000):
            await ctx.report_progress(step, 10_000, "still at it")
            await asyncio.sleep(0.05)
        return "late"

    async def ask(self, ctx: Context) -> str:
        """Ask the client's model."""
        try:
            await ctx.session.create_message(
                messages=[SamplingMessage(role="user", content=TextContent(type="text", text="tell me"))],
                max_tokens=10,
            )
        except Exception as error:
            return f"refused: {error}"
        return "was answered"

    async def table(self) -> dict[str, Any]:
        """Return what is structured."""
        return {"rows": [1, 2]}


@pytest.fixture(params=["http", "json", "stateless", "sse"])
def bench(request: pytest.FixtureRequest) -> Iterator[tuple[Bench, dict[str, Any]]]:
    server = Bench()
    transport = "sse" if request.param == "sse" else "http"
    options: dict[str, Any] = {"json": {"json_response": True}, "stateless": {"stateless_http": True}}.get(
        request.param, {}
    )
    with sdk_server(server, transport, **options) as url:
        yield server, {"s": {"url": url, "transport": transport}}


Served = tuple[Bench, dict[str, Any]]


async def test_tools_are_listed_with_what_the_operator_knows_of_them(
    engine: OpaEngine, bench: Served
) -> None:
    servers = {"s": bench[1]["s"] | {"tools": {"add": {"read_only": True, "destructive": False}}}}

    found = {one.name: one for one in await World(engine, servers).tools()}

    assert set(found) == {"add", "fail", "picture", "slow", "ask", "table", "busy"}
    assert found["add"].description == "Add two numbers."
    assert set(found["add"].input_schema["properties"]) == {"a", "b"}  # type: ignore[arg-type]
    assert found["add"].claimed == {"title": "Add", "readOnlyHint": True}
    assert found["add"].recorded == Annotations(read_only=True, destructive=False)
    assert found["fail"].recorded == Annotations()


async def test_a_call_has_its_result(engine: OpaEngine, bench: Served) -> None:
    world = World(engine, bench[1])

    outcome = await world.call("add", {"a": 2, "b": 3})

    assert (outcome.text, outcome.is_error, outcome.error, outcome.identity, outcome.size) == (
        "5",
        False,
        None,
        "none",
        1,
    )
    assert world.exchanges == {("call", "ok"): 1}


async def test_an_error_of_a_tool_is_told_as_its_own(engine: OpaEngine, bench: Served) -> None:
    outcome = await World(engine, bench[1]).call("fail")

    assert outcome.is_error
    assert outcome.error is not None
    assert outcome.error["type"] == "mcp_tool_execution_error"
    assert "no such customer" in outcome.text


async def test_a_tool_that_there_is_not_is_an_error(engine: OpaEngine, bench: Served) -> None:
    outcome = await World(engine, bench[1]).call("none")

    assert outcome.is_error


async def test_a_picture_becomes_a_note(engine: OpaEngine, bench: Served) -> None:
    outcome = await World(engine, bench[1]).call("picture")

    assert outcome.text == "[image: image/png, 100 bytes; not shown here]"


async def test_what_is_structured_comes_with_the_text(engine: OpaEngine, bench: Served) -> None:
    outcome = await World(engine, bench[1]).call("table")

    assert outcome.structured == {"rows": [1, 2]}


async def test_a_server_asks_for_nothing(engine: OpaEngine, bench: Served) -> None:
    outcome = await World(engine, bench[1]).call("ask")

    assert outcome.text.startswith("refused")


@pytest.mark.parametrize("name", ["slow", "busy"])
async def test_a_call_ends_at_its_deadline_whatever_progress_is_told(
    engine: OpaEngine, bench: Served, name: str
) -> None:
    began = time.monotonic()

    outcome = await World(engine, bench[1]).call(name, deadline_s=1.0)

    assert outcome.error == {
        "type": "http_error",
        "code": 504,
        "message": "The server did not answer in time.",
    }
    assert time.monotonic() - began < 4


async def test_a_call_that_is_cancelled_is_cancelled_at_the_server_within_a_second(
    engine: OpaEngine, bench: Served
) -> None:
    server = bench[0]
    async with asyncio.TaskGroup() as group:
        calling = group.create_task(World(engine, bench[1]).call("slow"))
        while "slow" not in server.calls:
            await asyncio.sleep(0.01)
        began = time.monotonic()
        calling.cancel()
    took = time.monotonic() - began
    while "cancelled" not in server.calls and time.monotonic() - began < 5:
        await asyncio.sleep(0.01)

    assert calling.cancelled()
    assert took < 1.5
    assert server.calls[-1] == "cancelled"


async def test_many_calls_at_once_are_each_their_own(engine: OpaEngine, bench: Served) -> None:
    world = World(engine, bench[1])

    outcomes = await asyncio.gather(*(world.call("add", {"a": one, "b": one}) for one in range(8)))

    assert [one.text for one in outcomes] == [str(2 * one) for one in range(8)]


async def test_a_server_of_the_protocol_without_sessions_is_spoken_to_as_it_wants(
    engine: OpaEngine, scripted: ScriptedUpstream
) -> None:
    async def unknown(exchange: Exchange, message: Any) -> None:
        error = {"code": -32601, "message": "Method not found"}
        await exchange.answer_json({"jsonrpc": "2.0", "id": message["id"], "error": error})

    discovered = {
        "resultType": "complete",
        "supportedVersions": ["2026-07-28"],
        "capabilities": {"tools": {}},
        "ttlMs": 0,
        "cacheScope": "private",
    }
    called = {"resultType": "complete", "content": [{"type": "text", "text": "done"}]}
    sent: list[Any] = []
    scripted.script = speaking(
        {"initialize": unknown, "server/discover": discovered, "tools/call": called}, sent
    )

    outcome = await World(engine, {"s": {"url": f"http://mcp.test:{scripted.port}/mcp"}}).call("x")

    assert (outcome.text, outcome.error) == ("done", None)
    assert [one["method"] for one in sent] == ["initialize", "server/discover", "tools/call"]
