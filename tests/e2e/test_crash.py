"""The gateway is killed: in the middle of many requests, and at each commit of its state. What was
acknowledged is there afterwards.

`CRASH_SEED` chooses one moment; `CRASH_ROUNDS` how many are tried; `CRASH_EVERY=1` kills at every commit
(`make crash`).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml
from tests.e2e.crashing import (
    SETTLED_SECONDS,
    Caller,
    Ledger,
    age_unfinished_writes,
    broken_promises,
    inconsistencies,
    modelled,
    orphans,
    settled,
    swept,
)
from tests.e2e.killed_at import LATER_SECONDS
from tests.e2e.test_process import JWT, SECRET, _state, headers
from tests.programs import children

from regate_adapters.testing.ports import free_port
from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running

SEED: Final = int(os.environ.get("CRASH_SEED", random.SystemRandom().randrange(10**6)))
ROUNDS: Final = int(os.environ.get("CRASH_ROUNDS", "1"))
EVERY: Final = int(os.environ.get("CRASH_EVERY", "9"))
REQUESTS: Final = 200
AT_ONCE: Final = 16

Work = Callable[[], Awaitable[object]]


@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("round_", range(ROUNDS))
async def test_gateway_killed_in_the_middle_of_many_requests_keeps_every_promise(
    round_: int, tmp_path: Path
) -> None:
    seed = SEED + round_
    print(f"CRASH_SEED={seed}")
    ledger = Ledger()
    async with modelled() as upstream:
        async with (
            served(tmp_path, upstream) as (url, process),
            httpx.AsyncClient(base_url=url, headers=headers(), timeout=60) as http,
        ):
            (opa,) = children(process.pid, "--server")
            await killed_amid(Caller(http, ledger), process, random.Random(seed))
            await ended(opa)
        age_unfinished_writes(tmp_path)
        async with (
            served(tmp_path, upstream) as (url, _),
            httpx.AsyncClient(base_url=url, headers=headers(), timeout=60) as http,
        ):
            await settled(tmp_path / "regate.db")
            problems = await broken_promises(http, ledger)
        problems += inconsistencies(tmp_path / "regate.db")
        await a_day_later(tmp_path, upstream)

    assert [*problems, *orphans(tmp_path)] == []


@pytest.mark.timeout(3_600)
async def test_gateway_killed_at_a_commit_keeps_every_promise(tmp_path: Path) -> None:
    offset = SEED % EVERY
    print(f"CRASH_SEED={SEED} CRASH_EVERY={EVERY}")
    async with modelled() as upstream:
        before, after = await asyncio.gather(
            *[deaths(tmp_path / when, upstream, when, offset) for when in ("before", "after")]
        )

    assert [told for told in (*before, *after) if told["problems"]] == []


# ---------------------------------------------------------------- many requests


class Mixed:
    """Requests of every kind that leaves something behind, each on what earlier ones made and none on
    what another is using.
    """

    def __init__(self, caller: Caller, chance: random.Random) -> None:
        self._caller = caller
        self._chance = chance
        self._count = 0
        self._responses: list[str] = []
        self._conversations: list[str] = []
        self._stores: list[str] = []
        self._files: list[str] = []
        self._attached: list[tuple[str, str]] = []

    async def prepare(self) -> None:
        self._conversations = [await self._caller.conversation() for _ in range(4)]
        self._stores = [await self._caller.store() for _ in range(2)]
        self._responses = [await self._caller.ask("Is it on?")]
        await self.upload()

    async def one(self) -> None:
        """Make one request of a random kind."""
        kinds: Sequence[Work] = (
            self.plain,
            self.stream,
            self.turn,
            self.background,
            self.upload,
            self.attach,
            self.remove,
            self.make,
        )
        await self._chance.choices(kinds, weights=(4, 6, 6, 4, 3, 4, 3, 1))[0]()

    async def plain(self) -> None:
        earlier = self._chance.choice([None, *self._responses])
        self._responses.append(
            await self._caller.ask(self._question(), **({"previous_response_id": earlier} if earlier else {}))
        )

    async def stream(self) -> None:
        await self._caller.stream(self._question(), previous_response_id=self._chance.choice(self._responses))

    async def turn(self) -> None:
        if not self._conversations:
            await self.plain()
            return
        conversation = self._conversations.pop()
        speak = self._chance.choice((self._caller.ask, self._caller.stream))
        await speak(self._question(), conversation=conversation)
        self._conversations.insert(0, conversation)

    async def background(self) -> None:
        speak = self._chance.choice((self._caller.ask, self._caller.stream))
        await speak(self._question(), background=True)

    async def upload(self) -> None:
        self._files.append(
            await self._caller.upload(
                "a.txt", f"Document {self._question()}" * self._chance.randrange(1, 400)
            )
        )

    async def attach(self) -> None:
        if not self._files:
            await self.upload()
            return
        pair = self._chance.choice(self._stores), self._files.pop()
        await self._caller.attach(*pair)
        self._attached.append(pair)

    async def remove(self) -> None:
        if not self._attached:
            await self.attach()
            return
        store, file = self._attached.pop(self._chance.randrange(len(self._attached)))
        await self._caller.remove(
            self._chance.choice((f"/v1/files/{file}", f"/v1/vector_stores/{store}/files/{file}"))
        )

    async def make(self) -> None:
        """Make a store with a file in it and delete it again."""
        store = await self._caller.store()
        if self._files:
            file = self._files.pop()
            await self._caller.attach(store, file)
            self._files.append(file)
        await self._caller.remove(f"/v1/vector_stores/{store}")

    def _question(self) -> str:
        self._count += 1
        return f"What is number {self._count}?"


async def killed_amid(caller: Caller, process: asyncio.subprocess.Process, chance: random.Random) -> None:
    """Kill the process when so many requests have begun to be answered, in the middle of others."""
    mixed = Mixed(caller, chance)
    await mixed.prepare()
    left = iter(range(REQUESTS))
    last = chance.randrange(REQUESTS // 4, 3 * REQUESTS // 4)
    answered = 0

    async def answers(_: httpx.Response) -> None:
        nonlocal answered
        answered += 1
        if answered == last:
            process.send_signal(signal.SIGKILL)

    async def work() -> None:
        try:
            for _ in left:
                await mixed.one()
        except httpx.TransportError:
            assert answered >= last

    caller.http.event_hooks = {"response": [answers]}
    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())
    await process.wait()
    assert process.returncode == -signal.SIGKILL


def configuration(data_dir: Path, upstream: str, port: int) -> dict[str, Any]:
    return {
        "data_dir": str(data_dir),
        "listen": {"port": port},
        "upstreams": [{"name": "u", "base_url": upstream}],
        "auth": {"jwt": JWT},
        "opa": {"timeout_ms": 60_000},
        "telemetry": {"access_log": False},
    }


@asynccontextmanager
async def served(data_dir: Path, upstream: str) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """Enter with `regate serve` answering, with embedded defaults; it is ended on leaving, if it
    still runs.
    """
    port = free_port()
    config = data_dir / "regate.yaml"
    config.write_text(yaml.safe_dump(configuration(data_dir, upstream, port)))
    with (data_dir / "log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "regate_gateway", "serve", "--config", str(config)),
            env={**os.environ, "TOKEN_SECRET": SECRET},
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(90), httpx.AsyncClient() as http:
            while not await _answers(http, url):
                assert process.returncode is None, (data_dir / "log").read_text()
                await asyncio.sleep(0.05)
        yield url, process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _answers(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(f"{url}/healthz")).status_code == 200
    except httpx.TransportError:
        return False


async def ended(opa: int) -> None:
    """Return when the process is gone; the kernel ends it with its parent."""
    async with asyncio.timeout(SETTLED_SECONDS):
        while Path(f"/proc/{opa}").exists() and "Z" not in _state(opa):
            await asyncio.sleep(0.02)


async def a_day_later(data_dir: Path, upstream: str) -> None:
    """Run the gateway a day later, until it has collected."""
    now = Path(data_dir / "regate.db").stat().st_mtime
    settings = Settings.model_validate({**configuration(data_dir, upstream, 0), "auth": {}})
    app, _ = gateway_app(settings, clock=lambda: now + LATER_SECONDS)
    async with Running(app, settings.listen):
        await swept(data_dir / "regate.db")


# ---------------------------------------------------------------- each commit


async def deaths(folder: Path, upstream: str, when: str, offset: int) -> list[dict[str, Any]]:
    """Return what was found after each death. The first life is one without."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.e2e.killed_at", str(folder), upstream, when, str(EVERY), str(offset)),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    whole, *others = [json.loads(line) for line in output.splitlines()]
    assert process.returncode == 0
    assert not whole["killed"]
    assert len(others) == len(range(1 + offset, whole["total"] + 1, EVERY))
    # The last commits may be others' (a background response that ends as the scenario does): there is then
    # nothing left to die in.
    assert all(told["killed"] for told in others if told["at"] < whole["total"] - 3)
    return [whole, *others]
