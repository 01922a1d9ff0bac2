"""Thousands of vector stores, a million responses, a conversation of hundreds of turns.

Each part is by itself, with a gateway or a database of its own, and prints what was measured at a64f341
beside what is measured now.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable
from pathlib import Path
from typing import Final

from bench.gateway import RunningGateway, percentile, running_backend
from bench.scale.clients import each, one_client
from regate_adapters.state.store import SqlStateStore
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import LoggedEvent, ResponseRow
from regate_orchestrator.values import ResponseId

_OPEN_FILES: Final = 1_024
"""What an ordinary shell grants."""
_LOGS: Final = 10_000
"""Responses whose log is to be collected, among all."""
_TURNS_SHOWN: Final = (1, 50, 100, 200)


async def stores(count: int) -> None:
    """Search so many vector stores, twice each, at a gateway that may open as many files as an
    ordinary shell lets it.
    """
    async with one_client(open_files=_OPEN_FILES) as (client, gateway):
        file, made = await client.upload(), dict[int, str]()
        before = gateway.resident_mib()

        async def make(number: int) -> None:
            made[number] = await client.store(f"store {number}", file)

        seconds = await each(make, count, doing="making stores")
        print(
            f"{count} vector stores of one file, {_OPEN_FILES} open files allowed: made in "
            f"{seconds:.0f} s, {_held(gateway, before)}"
        )
        for round_ in (1, 2):
            statuses, taken = Counter[int](), list[float]()

            async def search(
                number: int, statuses: Counter[int] = statuses, taken: list[float] = taken
            ) -> None:
                began = time.perf_counter()
                status, found = await client.post(
                    f"/vector_stores/{made[number]}/search", query="annual leave"
                )
                taken.append((time.perf_counter() - began) * 1000)
                statuses[status if status != 200 or found["data"] else 0] += 1

            await each(search, count, doing=f"round {round_}")
            answers = ", ".join(f"{number} times {status}" for status, number in sorted(statuses.items()))
            speed = f"p50 {percentile(taken, 0.5):.0f} ms, p99 {percentile(taken, 0.99):.0f} ms"
            print(f"  round {round_}: {answers}; {speed}; {_held(gateway, before)}")
        print("  (at a64f341, of 215 stores 58 were 503 in the second round, and 1,000 held 2,670 MB)")


def _held(gateway: RunningGateway, before: float) -> str:
    files = len(list(Path(f"/proc/{gateway.process.pid}/fd").iterdir()))
    return f"{gateway.resident_mib() - before:+.0f} MiB, {files} open files"


async def responses(count: int) -> None:
    """Sweep the logs of some of so many responses, while others are saved."""
    with tempfile.TemporaryDirectory(prefix="regate-bench-") as folder:
        path = Path(folder) / "regate.db"
        async with SqlStateStore.open(f"sqlite:///{path}") as state:
            await state.responses.save(_response("resp_first", background=True))
            await state.events.append(
                Principal("ann", "acme"),
                ResponseId("resp_first"),
                [LoggedEvent({"type": "response.completed", "sequence_number": 0})],
            )
        _multiply(path, count)
        async with SqlStateStore.open(f"sqlite:///{path}", deadline_s=60) as state:
            size = path.stat().st_size / 2**20
            print(
                f"{count:,} responses in {size:.0f} MiB of SQLite, {_LOGS:,} with a log that is to be swept"
            )
            for what in ("something", "nothing"):
                waited = list[float]()
                async with asyncio.TaskGroup() as group:
                    sweep = group.create_task(
                        _timed(state.events.forget(made_before=int(time.time()) - 3_600))
                    )
                    while not (waited and sweep.done()):
                        waited.append(await _saved(state, f"resp_{what}_{len(waited)}"))
                removed, seconds = sweep.result()
                longest = f"a response is saved in {max(waited) * 1000:.0f} ms at most"
                print(f"  a sweep with {what} to do: {removed:,} events in {seconds:.2f} s; {longest}")
        print("  (at a64f341, of 202,000 responses 3 to 4 s each minute, and a response waited 3.8 s)")


def _response(name: str, *, background: bool = False) -> ResponseRow:
    body = {"id": name, "object": "response", "error": None}
    at = 1_700_000_000 if background else int(time.time())
    return ResponseRow(
        ResponseId(name), "acme", "ann", at, "completed", None, "small", "r1", body, background=background
    )


def _multiply(path: Path, count: int) -> None:
    """Copy the one response, and its log some times, within the database."""
    with sqlite3.connect(path) as database:
        for table, column, many in (("responses", "id", count), ("response_events", "response_id", _LOGS)):
            columns = [str(row[1]) for row in database.execute(f"PRAGMA table_info({table})")]
            copied = ", ".join(
                f"printf('resp_%08d', n) AS {name}" if name == column else name for name in columns
            )
            numbers = (
                "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < "
                f"{many})"
            )
            one = f"(SELECT * FROM {table} LIMIT 1)"
            database.execute(
                f"{numbers} INSERT INTO {table} ({', '.join(columns)}) SELECT {copied} FROM numbers, {one}"
            )


async def _timed(work: Awaitable[int]) -> tuple[int, float]:
    began = time.perf_counter()
    return await work, time.perf_counter() - began


async def _saved(state: SqlStateStore, name: str) -> float:
    began = time.perf_counter()
    await state.responses.save(_response(name))
    return time.perf_counter() - began


async def conversation(turns: int) -> None:
    """Have a conversation in which each turn searches."""
    async with running_backend("bench.backend") as backend, one_client(backend) as (client, gateway):
        store = await client.store("handbook", await client.upload())
        tools = [{"type": "file_search", "vector_store_ids": [store]}]
        previous, taken, sizes, before = None, list[float](), list[tuple[int, int]](), gateway.resident_mib()
        for _ in range(turns):
            began = time.perf_counter()
            status, made = await client.post(
                "/responses", model="bench", input="And then?", previous_response_id=previous, tools=tools
            )
            if status != 200:
                raise RuntimeError(json.dumps(made))
            taken.append((time.perf_counter() - began) * 1000)
            previous = made["id"]
            sizes.append((_bytes(gateway.data_dir, "regate.db*"), _bytes(gateway.data_dir / "audit", "*")))
        print(
            f"a conversation of {turns} turns, each with file_search: "
            f"{gateway.resident_mib() - before:+.0f} MiB in the end"
        )
        for turn in (one for one in _TURNS_SHOWN if one <= turns):
            stored, recorded = (size / 2**20 for size in sizes[turn - 1])
            last = percentile(taken[max(0, turn - 10) : turn], 0.5)
            print(
                f"  turn {turn:<5}{last:>7.0f} ms; {stored:>6.1f} MiB stored, {recorded:>6.2f} MiB of audit"
            )
        print(
            "  (at a64f341, 51 turns stored 22.5 MB, a turn went from 0.4 to 3.5 s, and memory grew by 80 MB)"
        )


def _bytes(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(pattern) if path.is_file())
