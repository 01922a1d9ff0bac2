"""Kills a gateway at each commit of one scenario, starts it again, and prints what is wrong then: a program,
run by `test_crash.py`.

    python -m tests.e2e.killed_at FOLDER UPSTREAM WHEN EVERY OFFSET

Each gateway is a fork of this process, which has loaded everything and opened nothing; and all ask one OPA.
So a death and a restart cost little. A line of JSON is printed for each: at which commit, right before or
right after it, and what was found.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from sqlalchemy.ext.asyncio import AsyncConnection
from tests.e2e.crashing import (
    Caller,
    Ledger,
    age_unfinished_writes,
    broken_promises,
    inconsistencies,
    orphans,
    settled,
    swept,
)

from regate_adapters.embeddings import wordllama  # noqa: F401
from regate_adapters.identity.jwt import mint_development_token
from regate_adapters.opa.install import require_opa
from regate_adapters.opa.server import parent_death as leash
from regate_adapters.state.database import Database
from regate_adapters.state.dialects import Begins, Scope
from regate_adapters.testing.ports import free_port
from regate_adapters.vector.local import store as vectors  # noqa: F401 - loaded once, for all
from regate_gateway.auth.authentication import DEVELOPMENT_AUDIENCE, DEVELOPMENT_ISSUER, shared_secret
from regate_gateway.composition.maintenance import Rhythm
from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running
from regate_gateway.workbench.build import build
from regate_gateway.workbench.directory import shipped_policies

LATER_SECONDS: Final = 25 * 3_600
"""How much later the gateway is started again: when all that is collected by its age is due."""


def main(folder: Path, upstream: str, when: str, every: int, offset: int) -> None:
    """Let it run through once to count the commits; then kill it at every so manieth."""
    with _policies(folder) as opa:
        total = _died(Life(folder / "whole", upstream, opa))
        for at in range(1 + offset, total + 1, every):
            _died(Life(folder / f"{at}", upstream, opa, at=at, when=when))


@dataclass(frozen=True, slots=True)
class Life:
    """A gateway from its first start to its death, and its data."""

    place: Path
    upstream: str
    opa: str
    at: int | None = None
    when: str = ""
    began: int = field(default_factory=lambda: int(time.time()))


def _died(life: Life) -> int:
    """Let it live and die, start it again and print what is wrong; return how many commits there were."""
    status = _forked(life, lived)
    _forked(life, restarted)
    found, broke, commits = (life.place / name for name in ("found.json", "broke", "commits"))
    problems = [broke.read_text()] if broke.exists() else json.loads(found.read_text())
    total = int(commits.read_text()) if commits.exists() else 0
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    print(
        json.dumps(
            {"at": life.at, "when": life.when, "killed": killed, "total": total, "problems": problems}
        ),
        flush=True,
    )
    return total


@contextmanager
def _policies(folder: Path) -> Iterator[str]:
    """Enter with an OPA of the shipped policies; yields its address."""
    bundle, opa = folder / "policies.tar.gz", require_opa()
    folder.mkdir(exist_ok=True)
    build(shipped_policies(), bundle, opa=opa, revision="", signing_key=None)
    address = f"127.0.0.1:{free_port()}"
    arguments = [
        str(opa),
        "run",
        "--server",
        "--addr",
        address,
        "--skip-version-check",
        "--log-level",
        "error",
        "--bundle",
        str(bundle),
    ]
    process = subprocess.Popen([sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), *arguments])
    try:
        while _status(f"http://{address}/health?bundles=true") != 200:
            assert process.poll() is None
            time.sleep(0.02)
        yield f"http://{address}"
    finally:
        process.kill()
        process.wait()


def _status(url: str) -> int:
    try:
        return httpx.get(url).status_code
    except httpx.TransportError:
        return 0


def _forked(life: Life, work: Callable[[Life], Coroutine[Any, Any, None]]) -> int:
    life.place.mkdir(parents=True, exist_ok=True)
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    try:
        asyncio.run(work(life))
    except BaseException:
        (life.place / "broke").write_text(traceback.format_exc())
        os._exit(1)
    os._exit(0)


def _settings(life: Life) -> Settings:
    values = {
        "data_dir": life.place / "data",
        "listen": {"port": 0},
        "opa": {"mode": "remote", "url": life.opa, "timeout_ms": 60_000},
        "upstreams": [{"name": "model", "base_url": life.upstream}],
        "telemetry": {"access_log": False, "log_level": "error"},
    }
    return Settings.model_validate(values)


@asynccontextmanager
async def _running(life: Life, *, now: int) -> AsyncIterator[httpx.AsyncClient]:
    settings = _settings(life)
    app, _ = gateway_app(
        settings, clock=lambda: now, rhythm=Rhythm(renew_s=3_600)
    )  # no commit but those of the scenario
    async with Running(app, settings.listen) as server:
        secret = shared_secret(settings).reveal().encode()
        token = mint_development_token(
            secret,
            issuer=DEVELOPMENT_ISSUER,
            audience=DEVELOPMENT_AUDIENCE,
            subject="alice",
            tenant="acme",
            ttl_s=3600,
        )
        async with httpx.AsyncClient(
            base_url=server.url, headers={"Authorization": f"Bearer {token}"}, timeout=60
        ) as http:
            yield http


async def lived(life: Life) -> None:
    """Run the scenario until this process dies at the commit; write how many commits there were if it
    never does.
    """
    numbers = itertools.count(1)
    _let_die(numbers, at=life.at, when=life.when)
    async with _running(life, now=life.began) as http:
        await scenario(Caller(http, Ledger(life.place / "ledger")))
    (life.place / "commits").write_text(str(next(numbers) - 1))


def _let_die(numbers: Iterator[int], *, at: int | None, when: str) -> None:
    """Make this process kill itself right before or right after a commit of the state store."""
    transaction = Database._transaction

    @asynccontextmanager
    async def counted(database: Database, begins: Begins, scope: Scope) -> AsyncIterator[AsyncConnection]:
        async with transaction(database, begins, scope) as connection:
            yield connection
            if begins is not database._engines.writing:
                return
            number = next(numbers)
            if (number, when) == (at, "before"):
                os.kill(os.getpid(), signal.SIGKILL)
        if (number, when) == (at, "after"):
            os.kill(os.getpid(), signal.SIGKILL)

    Database._transaction = counted  # type: ignore[method-assign,assignment]


async def scenario(caller: Caller) -> None:
    """Everything that leaves something behind, once, one after the other."""
    kept, detached, deleted = [
        await caller.upload(f"{name}.md", f"# {name}\n\nThe {name} is blue.")
        for name in ("sky", "sea", "ink")
    ]
    store, dropped = await caller.store(), await caller.store()
    attached = ((dropped, kept), (store, detached), (store, deleted))
    for place, file in attached:
        await caller.attach(place, file)
    for place, file in attached:
        await caller.ingested(place, file)
    assert await caller.search(store, "sea")
    for colour in ("blue", "green"):
        await caller.change(f"/v1/vector_stores/{store}/files/{detached}", "attributes", {"colour": colour})
    await caller.change(f"/v1/vector_stores/{store}", "name", "Colours")
    many = [await caller.upload(f"{number}.md", f"Number {number} is red.") for number in range(3)]
    first_batch = await caller.batch(store, many[:2])
    for file in many[:2]:
        await caller.ingested(store, file)
    await caller.cancelled(store, first_batch, many[:2])
    await caller.cancelled(store, await caller.batch(store, many[2:]), many[2:])
    tools = [{"type": "file_search", "vector_store_ids": [dropped]}]
    first = await caller.ask("What is blue?", instructions="Be brief.")
    await caller.ask("And what else?", previous_response_id=first)
    searched = await caller.ask("Which file says so?", tools=tools)
    conversation = await caller.conversation()
    await caller.ask("Hello?", conversation=conversation)
    await caller.stream("Still there?", conversation=conversation)
    await caller.stream("Once more?", previous_response_id=first)
    await caller.ended(await caller.ask("Take your time?", background=True))
    await caller.ended(await caller.stream("Take it slowly?", background=True))
    ended = await caller.conversation()
    await caller.ask("Will this be deleted?", conversation=ended)
    for path in (
        f"/v1/responses/{searched}",
        f"/v1/conversations/{ended}",
        f"/v1/vector_stores/{store}/files/{detached}",
        f"/v1/files/{deleted}",
        f"/v1/vector_stores/{dropped}",
    ):
        await caller.remove(path)


async def restarted(life: Life) -> None:
    """Start again, let everything end by itself, and write down what is wrong."""
    data, ledger = life.place / "data", life.place / "ledger"
    age_unfinished_writes(data)
    async with _running(life, now=life.began + LATER_SECONDS) as http:
        await settled(data / "regate.db")
        await swept(data / "regate.db")
        problems = await broken_promises(http, Ledger.read(ledger) if ledger.exists() else Ledger())
    problems += [*inconsistencies(data / "regate.db"), *orphans(data)]
    (life.place / "found.json").write_text(json.dumps(problems))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
