"""`regate serve --workers`: several processes on one socket, with one OPA, one audit log each and one set of
figures; one may die, and all end in order.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from tests.deployments import VARIABLE, Deployment, only_on
from tests.e2e.conftest import ScriptedUpstream
from tests.e2e.test_process import hanging, headers, served
from tests.patience import PATIENT_SECONDS, until
from tests.programs import children

from regate_adapters.audit.reading import read
from regate_adapters.audit.segments import logs_in
from regate_gateway.cli.main import main

pytestmark = only_on("postgres")

WORKERS = 2
MANY = 40
"""Connections of their own, so many that no worker is left out by chance."""


class Served:
    """A gateway of several workers, as a client and its operator have it."""

    def __init__(self, url: str, process: asyncio.subprocess.Process, folder: Path) -> None:
        self.url = url
        self.process = process
        self.folder = folder

    async def ask(self, method: str = "GET", path: str = "/v1/models", **more: Any) -> httpx.Response:
        """Ask on a connection of its own, which any worker may take."""
        async with httpx.AsyncClient(headers=headers(), timeout=PATIENT_SECONDS) as http:
            return await http.request(method, f"{self.url}{path}", **more)

    async def ask_all(self, count: int = MANY, **more: Any) -> list[httpx.Response]:
        """Ask so often, at the same time, that all workers are asked."""
        return await asyncio.gather(*(self.ask(**more) for _ in range(count)))

    def children(self, called: str = "") -> list[int]:
        """The processes that the supervisor started, those that were called so."""
        return children(self.process.pid, called)

    @property
    def workers(self) -> list[int]:
        return self.children("regate_gateway.workers.worker")

    async def figure(self, name: str) -> float:
        """The sum of a metric over all its labels, as a scrape of any worker says."""
        text = (await self.ask(path="/metrics")).text
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


@pytest.fixture
async def gateway(
    tmp_path: Path, upstream: ScriptedUpstream, policies: Path, deployment: Deployment
) -> AsyncIterator[Served]:
    async with serving(tmp_path, upstream, policies, deployment) as found:
        yield found


@asynccontextmanager
async def serving(
    folder: Path, upstream: ScriptedUpstream, policies: Path, deployment: Deployment, **listen: Any
) -> AsyncIterator[Served]:
    more = {
        "opa": {"bundle": str(policies), "timeout_ms": 60_000},
        "audit": {"checkpoint_records": 5},
        **deployment.settings,
    }
    async with served(folder, upstream.url, listening={"workers": WORKERS, **listen}, **more) as (
        url,
        process,
    ):
        found = Served(url, process, folder)
        await until(lambda: _all_serve(found))
        yield found


async def _all_serve(gateway: Served) -> bool:
    return await gateway.figure("regate_workers") == WORKERS


async def test_workers_share_one_opa_and_write_logs_that_verify(gateway: Served) -> None:
    answers = await gateway.ask_all()
    await until(lambda: len(list((gateway.folder / "audit").glob("worker-*"))) == WORKERS)

    logs = logs_in(gateway.folder / "audit")
    records = [len([one for one in read(log) if one.get("subject") == "alice"]) for log in logs]
    config = ["--config", str(gateway.folder / "regate.yaml")]
    verified = CliRunner().invoke(main, ["audit", "verify", *config, "--json"])
    shown = CliRunner().invoke(main, ["audit", *config, "--subject", "alice", "--json"])
    assert {answer.status_code for answer in answers} == {200}
    assert [log.name for log in logs] == ["worker-1", "worker-2"]
    assert min(records) > 0
    assert sum(records) >= MANY
    assert verified.exit_code == 0, verified.output
    assert len(json.loads(verified.stdout)["logs"]) == WORKERS
    assert len(shown.stdout.splitlines()) == sum(records)
    assert len(gateway.children("--server")) == 1


async def test_any_worker_tells_what_all_count_and_the_dead_one_counted(gateway: Served) -> None:
    await gateway.ask_all()
    before = await gateway.figure("regate_requests_total")
    again = await gateway.figure("regate_requests_total")
    killed = gateway.workers[0]
    os.kill(killed, signal.SIGKILL)
    await until(lambda: killed not in gateway.workers and len(gateway.workers) == WORKERS)
    await until(lambda: _all_serve(gateway))

    assert before >= MANY
    assert again == before + 1  # the scrape before
    assert await gateway.figure("regate_requests_total") > again
    assert await gateway.figure("regate_worker_restarts_total") == 1


async def test_requests_are_answered_while_a_worker_is_killed_and_comes_back(gateway: Served) -> None:
    killed = gateway.workers[0]
    answered = 0

    async def asking() -> None:
        nonlocal answered
        while killed in gateway.workers or len(gateway.workers) < WORKERS:
            try:
                answer = await gateway.ask()
            except httpx.TransportError:
                continue  # it was the dead one's
            assert answer.status_code == 200
            answered += 1

    os.kill(killed, signal.SIGKILL)
    await asyncio.gather(*(asking() for _ in range(4)))
    await until(lambda: _all_serve(gateway))

    assert answered > 0
    assert {answer.status_code for answer in await gateway.ask_all()} == {200}


async def test_a_change_of_policy_is_in_force_at_every_worker(gateway: Served, policies: Path) -> None:
    before = {len(answer.json()["data"]) for answer in await gateway.ask_all()}
    revisions = {answer.json()["policy_revision"] for answer in await gateway.ask_all(path="/readyz")}
    (policies / "custom").mkdir()
    (policies / "custom" / "closed.rego").write_text(
        'package regate.custom.route\n\ndeny if input.principal.id == "alice"\n'
    )

    async def changed() -> bool:
        answer = await gateway.ask(path="/readyz")
        return answer.json().get("policy_revision") not in {*revisions, None}

    await until(changed)
    assert before == {2}
    assert len(revisions) == 1
    assert {len(answer.json()["data"]) for answer in await gateway.ask_all()} == {0}


async def test_policies_that_cannot_serve_are_told_by_every_worker(gateway: Served, policies: Path) -> None:
    (policies / "route" / "broken.rego").write_text("package regate.route\n\nallow if {\n")

    async def told() -> bool:
        answers = await gateway.ask_all(path="/readyz")
        return all("policy_problem" in answer.json() for answer in answers)

    await until(told)
    assert {answer.status_code for answer in await gateway.ask_all()} == {200}


async def test_what_one_worker_runs_in_the_background_is_followed_and_cancelled_at_others(
    gateway: Served, upstream: ScriptedUpstream
) -> None:
    upstream.turns = [hanging]
    body = {"model": "small", "input": "hi", "background": True}
    created = (await gateway.ask("POST", "/v1/responses", json=body)).json()
    path = f"/v1/responses/{created['id']}"
    await until(lambda: len(upstream.requests) == 1)

    seen = {answer.json()["status"] for answer in await gateway.ask_all(path=path)}
    await gateway.ask("POST", f"{path}/cancel")

    async def cancelled() -> bool:
        return {answer.json()["status"] for answer in await gateway.ask_all(path=path)} == {"cancelled"}

    await until(cancelled)
    assert seen == {"in_progress"}


async def test_what_a_killed_worker_was_at_ends_when_it_is_back(
    gateway: Served, upstream: ScriptedUpstream
) -> None:
    upstream.turns = [hanging] * 2 * WORKERS
    body = {"model": "small", "input": "hi", "background": True}
    made: list[str] = []
    for _ in range(2 * WORKERS):
        made.append((await gateway.ask("POST", "/v1/responses", json=body)).json()["id"])
    await until(lambda: len(upstream.requests) == len(made))
    for worker in gateway.workers:
        os.kill(worker, signal.SIGKILL)

    async def statuses() -> set[str]:
        answers = [await gateway.ask(path=f"/v1/responses/{one}") for one in made]
        return {answer.json().get("status") for answer in answers}

    async def ended() -> bool:
        try:
            return await statuses() == {"failed"}
        except httpx.TransportError:  # none of them is back
            return False

    await until(ended)
    assert await statuses() == {"failed"}


async def test_sigterm_ends_all_in_order(
    tmp_path: Path, upstream: ScriptedUpstream, policies: Path, deployment: Deployment
) -> None:
    let_go, begun = asyncio.Event(), False

    async def slow(scripted: ScriptedUpstream, request: Any) -> Any:
        nonlocal begun
        begun = True
        await let_go.wait()
        return await scripted.chat(request)

    upstream.turns = [slow]
    async with serving(tmp_path, upstream, policies, deployment, shutdown_notice_s=60) as gateway:
        everyone = gateway.children()
        body = {"model": "small", "messages": [{"role": "user", "content": "hi"}]}

        async def announced() -> bool:
            return {one.status_code for one in await gateway.ask_all(path="/readyz")} == {503}

        async with asyncio.TaskGroup() as group:
            running = group.create_task(gateway.ask("POST", "/v1/chat/completions", json=body))
            await until(lambda: begun)
            gateway.process.terminate()
            await until(announced)
            served_meanwhile = {one.status_code for one in await gateway.ask_all()}
            gateway.process.terminate()  # a second time: the notice is over
            let_go.set()
        status = await gateway.process.wait()

    assert served_meanwhile == {200}
    assert running.result().status_code == 200
    assert status == 0
    assert not [pid for pid in everyone if Path(f"/proc/{pid}").exists()]


async def test_supervisor_that_is_killed_leaves_nothing_in_the_way_of_the_next(
    tmp_path: Path, upstream: ScriptedUpstream, policies: Path, deployment: Deployment
) -> None:
    upstream.turns = [hanging]
    body = {"model": "small", "input": "hi", "background": True}
    long = {"shutdown_grace_s": 600, "shutdown_notice_s": 600}  # nobody may wait for it
    async with serving(tmp_path, upstream, policies, deployment, **long) as gateway:
        everyone = gateway.children()
        made = (await gateway.ask("POST", "/v1/responses", json=body)).json()["id"]
        await until(lambda: len(upstream.requests) == 1)
        gateway.process.kill()
        await gateway.process.wait()
        await until(lambda: not [pid for pid in everyone if _runs(pid)])
    async with serving(tmp_path, upstream, policies, deployment) as gateway:
        found = await gateway.ask_all(path=f"/v1/responses/{made}")

    assert {answer.json()["status"] for answer in found} == {"failed"}


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


async def test_a_worker_that_cannot_start_is_why_the_gateway_does_not(
    tmp_path: Path, upstream: ScriptedUpstream, policies: Path, deployment: Deployment
) -> None:
    config = tmp_path / "regate.yaml"
    settings = {
        "data_dir": str(tmp_path),
        "listen": {"port": 0, "workers": WORKERS},
        "upstreams": [{"name": "u", "base_url": upstream.url}],
        "opa": {"bundle": str(policies)},
        **deployment.settings,
    }
    config.write_text(json.dumps(settings))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "regate_gateway", "serve", "--config", str(config)),
        env={**os.environ, VARIABLE: "postgresql://nobody@127.0.0.1:1/none"},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()

    assert process.returncode == 1
    assert b"regate: state.url_env (DATABASE_URL)" in said
