"""What tools cost: deciding a long history of their results, what its lineage takes of what is stored, and one
call of an MCP server's tool through the gateway beside the SDK's own. `python -m bench.tools`.

The history has 200 items of 50 turns, which rest on 1,000 sources: chunks, results of tools, and pages. It is
stored in SQLite, read back, and decided by one managed OPA with the shipped policies, with the audit log on
the disk. That the chunks are attached still is not looked up.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import aiohttp
from mcp import Client
from sqlalchemy import text

from bench.gateway import percentile, running_backend, running_gateway, token
from bench.machine import describe, watched
from bench.questions import STORE, principal, stamp
from bench.timing import aim, measure
from regate_adapters.audit.log import SegmentedAuditLog
from regate_adapters.opa.batching import BatchingEngine
from regate_adapters.state.store import SqlStateStore
from regate_adapters.testing.opa import running_opa
from regate_gateway.workbench.directory import shipped_policies
from regate_orchestrator.authz.batches import Batch
from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.authz.points import ROWS
from regate_orchestrator.filters.schema import load_schema
from regate_orchestrator.lineage import NOTHING_READ, ChunkSource, Lineage, PageSource, Source, ToolSource
from regate_orchestrator.responses.context.history import History, held, history_of, readmit
from regate_orchestrator.responses.tools.passage import Passage
from regate_orchestrator.responses.tools.view import tool_view
from regate_orchestrator.rows import ResponseRow, StoredItem
from regate_orchestrator.values import FileId, JsonObject, RequestId, ResponseId, StoreId

_WHO: Final = principal(5)
_CONTEXT: Final = Context(_WHO, RequestId("req_bench"))
_TURNS: Final = 50
_PER_TURN: Final = 20
_RESULT: Final = "Ticket 7 is open, and has been so since Monday. " * 40
_PASSAGE: Final = "Everybody has 28 days of leave, of which five may be taken in the next year. " * 12
_SEARCHED: Final[JsonObject] = {"type": "file_search_call", "status": "completed", "queries": ["leave"]}
_CALLED: Final[JsonObject] = {
    "type": "mcp_call",
    "status": "completed",
    "server_label": "tickets",
    "name": "search",
    "arguments": '{"query": "7"}',
    "output": _RESULT,
    "error": None,
}
_GRANTED: Final = {"tenants": {"acme": ["everyone"]}, "needs_approval": False}
_TOOLS: Final = {
    "tickets/search": {"type": "mcp", **_GRANTED},
    "web_search": {"type": "web_search", **_GRANTED},
}
_ITEMS: Final = "response_items"
_MAX_MS: Final = 15
_MAX_PERCENT: Final = 10


def source(turn: int, number: int) -> Source:
    """Return one of a turn's sources: twelve chunks, four pages, and four results of a tool."""
    if number < 12:
        place = turn * 12 + number
        return ChunkSource(
            StoreId("vs_1"), FileId(f"file-{place // 6:032x}"), f"{place:032x}", stamp(place // 6)
        )
    size = 900 + (turn * 7 + number) % 40
    if number < 16:
        result: JsonObject = {
            "mime": "text/html",
            "size": size,
            "labels": [],
            "host": f"site-{number}.example",
        }
        return PageSource(
            f"https://site-{number}.example/{turn}", tool_view("web_search", "web_search"), result
        )
    tool = tool_view("mcp", "search", server_label="tickets")
    call: JsonObject = {
        "identity": "none",
        "digest": f"{turn:064x}",
        "numbers": {},
        "approved": False,
        "at": turn,
    }
    return ToolSource(
        f"mcp_{turn * 20 + number:048x}", tool, {"mime": "text/plain", "size": size, "labels": []}, call
    )


def responses() -> list[ResponseRow]:
    """Return the turns: a question, a search, a call, and an answer."""
    rows: list[ResponseRow] = []
    lineage: Lineage = NOTHING_READ
    for turn in range(_TURNS):
        asked = StoredItem(
            f"msg_{turn:047x}0", _message("user", "And how is ticket 7?", "input_text"), "input"
        )
        lineage = lineage.plus(source(turn, number) for number in range(_PER_TURN))
        calls = (
            StoredItem(
                f"fs_{turn:048x}", _SEARCHED, "output", lineage, tuple(map(_found, lineage.added))[:16]
            ),
            StoredItem(f"mcp_{turn:048x}", _CALLED, "output", lineage),
        )
        said = _message("assistant", "It is open, as it was before. " * 20, "output_text")
        answer = StoredItem(f"msg_{turn:047x}1", said, "output", lineage)
        identifier = ResponseId(f"resp_{turn:048x}")
        rows.append(
            ResponseRow(
                identifier,
                "acme",
                _WHO.id,
                1_700_000_000 + turn,
                "completed",
                rows[-1].id if rows else None,
                "small",
                "r1",
                {"id": identifier, "object": "response", "error": None},
                (asked, *calls, answer),
            )
        )
    return rows


def _message(role: str, said: str, part: str) -> JsonObject:
    return {"type": "message", "role": role, "content": [{"type": part, "text": said}]}


def _found(one: Source) -> JsonObject:
    """Return a chunk or a page as it is stored with the call that found it."""
    return (
        Passage(one, "handbook.md", _PASSAGE, 0.9).stored()
        if isinstance(one, ChunkSource | PageSource)
        else {}
    )


def batch_of(history: History) -> Batch:
    """Return what decides the history, as the gate asks it (`responses/context/gate.py`)."""
    sources = history.sources.values()
    return Batch(
        stores={"vs_1": STORE},
        chunks=[(one.store_id, one.stamp) for one in sources if isinstance(one, ChunkSource)],
        tool_results=[
            {"tool": one.tool, "result": one.result}
            for one in sources
            if isinstance(one, ToolSource | PageSource)
        ],
        items=[one.view() for one in history.items],
    )


async def measure_history(folder: Path, rounds: int) -> None:
    """Print what deciding the history takes, and what its lineage does."""
    policies = granted(folder)
    schemas = {kind: load_schema(policies / "schemas" / f"{kind}.json") for kind in ROWS}
    async with AsyncExitStack() as stack:
        opa = await stack.enter_async_context(running_opa(policies, schemas=schemas, deadline_s=10))
        state = await stack.enter_async_context(SqlStateStore.open(f"sqlite:///{folder / 'state.db'}"))
        log = await stack.enter_async_context(SegmentedAuditLog.open(folder / "audit"))
        enforcer = Enforcer(BatchingEngine(opa), log, schemas)
        for row in responses():
            await state.responses.save(row)
        rows = await state.responses.chain(_WHO, ResponseId(f"resp_{_TURNS - 1:048x}"))
        history = history_of(held(rows or ()))

        async def decide() -> None:
            admitted = await enforcer.admit(_CONTEXT, "history.reuse", batch_of(history))
            left = readmit(history, admitted.items, frozenset())
            if left.withheld or len(admitted.tool_results) != _TURNS * 8:
                raise RuntimeError("the history is not admitted")

        taken, _ = await measure(decide, calls=rounds)
        median = percentile(taken, 0.5)
        print(
            f"{len(history.items)} items on {len(history.sources)} sources decided: p50 {median:.1f} ms, "
            f"p99 {percentile(taken, 0.99):.1f} ms   {aim(median, _MAX_MS, 'ms')}"
        )
        share = await lineage_share(state)
        print(f"lineage in what is stored of the items: {share:.1f} %   {aim(share, _MAX_PERCENT, '%')}")


async def lineage_share(state: SqlStateStore) -> float:
    """Return the share of lineage in the bytes of stored items, in percent."""
    async with state._database.maintenance.reading() as connection:  # noqa: SLF001 — what no port tells
        sums = [
            (await connection.execute(text(f"SELECT sum(length({column})) FROM {table}"))).scalar_one()
            for table, column in (
                ("lineages", "added"),
                *((_ITEMS, column) for column in ("body", "results")),
            )
        ]
    return float(100 * sums[0] / sum(sums))


def granted(folder: Path) -> Path:
    """Return a copy of the shipped policies whose catalogue has the tools."""
    policies = Path(shutil.copytree(shipped_policies(), folder / "rego"))
    data = policies / "data.json"
    document = json.loads(data.read_text(encoding="utf-8"))
    document["regate"]["tools"] = _TOOLS
    data.write_text(json.dumps(document), encoding="utf-8")
    return policies


async def measure_calls(folder: Path, calls: int) -> None:
    """Print what one call of a server's tool takes through the gateway, and by the SDK's own client."""
    async with AsyncExitStack() as stack:
        model = await stack.enter_async_context(running_backend("tests.clients.model"))
        url = (await stack.enter_async_context(running_backend("bench.tool_server"))).removesuffix(
            "/v1"
        ) + "/mcp"
        more = {
            "tools": {"mcp": {"servers": {"tickets": {"url": url}}}},
            "egress": {"allow_private": ["127.0.0.0/8"]},
            "opa": {"bundle": str(granted(folder)), "timeout_ms": 60_000},
        }
        gateway = await stack.enter_async_context(running_gateway(model, more=more))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        headers = {"Authorization": f"Bearer {token('user', 'acme')}"}

        async def ask(kind: str, **body: Any) -> None:
            asked = {"model": "small", "store": False, **body}
            async with session.post(f"{gateway.url}/v1/responses", json=asked, headers=headers) as answer:
                found = await answer.json()
                if kind not in [item["type"] for item in found["output"]]:
                    raise RuntimeError(str(found))

        async def by_itself() -> None:
            async with Client(url) as client:
                await client.list_tools()
                await client.call_tool("search", {"query": "7"})

        offered = [{"type": "mcp", "server_label": "tickets", "require_approval": "never"}]
        asking = "mcp__tickets__search('7')"
        ways: dict[str, Callable[[], Awaitable[None]]] = {
            "a response without tools": lambda: ask("message", input="Hello"),
            "a response with one call of a server's tool": lambda: ask(
                "mcp_call", input=asking, tools=offered
            ),
            "connecting, listing and calling by the SDK": by_itself,
        }
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(calls + 5):
            for name, way in ways.items():
                began = time.perf_counter()
                await way()
                if number >= 5:
                    taken[name].append((time.perf_counter() - began) * 1000)
        for name, times in taken.items():
            print(f"{name:<46} p50 {percentile(times, 0.5):>6.1f} ms, p99 {percentile(times, 0.99):>6.1f} ms")


async def run(rounds: int) -> None:
    """Measure, and print."""
    print(describe())
    with watched() as noise:
        for part in (measure_history, measure_calls):
            with tempfile.TemporaryDirectory() as folder:
                await part(Path(folder), rounds)
    print(noise)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    asyncio.run(run(parser.parse_args().rounds))


if __name__ == "__main__":
    main()
