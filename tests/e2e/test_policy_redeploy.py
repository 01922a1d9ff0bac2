"""Redeploying a team's policies under a running gateway, in each way that the documents name: nobody is let
in meanwhile, and nothing is amiss.

What is deployed denies contractors by a rule of the team's own; the shipped policies alone would let them in.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from tests.adapters.opa.writers import Writer, copied, list_last, projected, removed_first
from tests.deployments import only_on
from tests.e2e.conftest import OPA_MS, ScriptedUpstream, World
from tests.patience import until

from regate_adapters.opa.policies.source import read_source
from regate_gateway.cli.main import main
from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running
from regate_gateway.workbench.directory import shipped_policies

pytestmark = only_on("embedded")

RULE = """package regate.custom.store

deny if "contractor" in input.principal.roles

# As of generation {}.
"""


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    """The shipped policies, for gateways that wait for writers as they do in operation."""
    return Path(shutil.copytree(shipped_policies(), tmp_path / "rego"))


@pytest.fixture
def team(tmp_path: Path) -> Path:
    """A security team's repository."""
    assert CliRunner().invoke(main, ["policy", "init", str(tmp_path / "team")]).exit_code == 0
    (tmp_path / "team" / "regate.yaml").write_text("opa: {bundle: build/policy}\n")
    amend(tmp_path / "team", 1)
    return tmp_path / "team"


def amend(team: Path, generation: int) -> None:
    rule = team / "overlay" / "custom" / "store" / "store.rego"
    rule.parent.mkdir(exist_ok=True)
    rule.write_text(RULE.format(generation))


def make(team: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["make", "policy"], cwd=team, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@dataclass
class Watched:
    """A gateway with a store in it, and what a contractor and a load balancer have been answered so far."""

    world: World
    store: str
    statuses: list[int] = field(default_factory=list)
    readiness: list[tuple[int, str, str | None]] = field(default_factory=list)

    async def contractor(self) -> None:
        async with self.world.http("eve", roles=["contractor"], teams=["eng"]) as eve:
            while True:
                self.statuses.append((await eve.get(f"/vector_stores/{self.store}")).status_code)

    async def balancer(self) -> None:
        async with httpx.AsyncClient(base_url=self.world.url, timeout=30) as anyone:
            while True:
                answer = await anyone.get("/readyz")
                body = answer.json()
                self.readiness.append((answer.status_code, body["status"], body.get("policy_revision")))
                await asyncio.sleep(0.05)

    async def asked_again(self) -> None:
        """Wait until the contractor has asked, and been answered, from beginning to end."""
        since = len(self.statuses)
        await until(lambda: len(self.statuses) >= since + 2)

    async def in_force(self, policy: Path) -> None:
        """Wait until this is the policy of the gateway."""
        revision = read_source(policy).revision
        await until(lambda: bool(self.readiness) and self.readiness[-1][2] == revision)


@asynccontextmanager
async def watched(settings: Settings, upstream: ScriptedUpstream, policies: Path) -> AsyncIterator[Watched]:
    app, gateway = gateway_app(settings)
    async with Running(app, settings.listen) as server:
        world = World(server.url, settings, gateway, upstream, policies)
        async with world.http("ann", teams=["eng"]) as ann:
            store = (
                await ann.post(
                    "/vector_stores", json={"name": "hers", "metadata": {"regate.visibility": "tenant"}}
                )
            ).json()["id"]
        async with world.http("bob", teams=["eng"]) as bob:
            assert (await bob.get(f"/vector_stores/{store}")).status_code == 200
        observed = Watched(world, store)
        async with asyncio.TaskGroup() as tasks:
            asking = [tasks.create_task(observed.contractor()), tasks.create_task(observed.balancer())]
            yield observed
            for task in asking:
                task.cancel()


def nothing_was_amiss(observed: Watched, caplog: pytest.LogCaptureFixture) -> bool:
    errors = [(record.name, record.message) for record in caplog.records if record.levelno > logging.WARNING]
    assert (set(observed.statuses), {(status, said) for status, said, _ in observed.readiness}, errors) == (
        {404},
        {(200, "ready")},
        [],
    )
    return True


async def test_make_policy_again_and_again_lets_nobody_in_and_is_in_force_each_time(
    configure: Callable[..., Settings],
    upstream: ScriptedUpstream,
    team: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    make(team)
    live = team / "build" / "policy"
    async with watched(configure(opa={"bundle": live, "timeout_ms": OPA_MS}), upstream, live) as observed:
        for generation in (2, 3):
            amend(team, generation)
            await asyncio.to_thread(make, team)
            await observed.in_force(live)
        (team / "overlay" / "custom" / "store" / "store.rego").unlink()
        let_in = len(observed.statuses)
        await asyncio.to_thread(make, team)
        await until(lambda: observed.statuses[-1] == 200)
        observed.statuses = observed.statuses[:let_in]

    assert nothing_was_amiss(observed, caplog)


def checked_out(new: Path, live: Path) -> Iterator[None]:
    """`git checkout` of another commit, in a directory that is a work tree."""

    def git(*arguments: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", "-C", str(live), *arguments],
            check=True,
            capture_output=True,
        )

    git("init", "--initial-branch", "one")
    git("add", "--all")
    git("commit", "--message", "one")
    yield
    git("checkout", "-b", "two")
    shutil.copytree(new, live, dirs_exist_ok=True)
    git("commit", "--all", "--message", "two")
    git("checkout", "one")
    git("checkout", "two")
    yield


WAYS: dict[str, Writer] = {
    "cp -r": copied(list_last),
    "rm -rf, cp -r": removed_first(list_last),
    "ConfigMap": projected,
    "git checkout": checked_out,
}


@pytest.mark.parametrize("way", WAYS)
async def test_copy_that_stops_between_every_two_files_lets_nobody_in_and_logs_no_error(
    way: str,
    configure: Callable[..., Settings],
    upstream: ScriptedUpstream,
    team: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "regate_adapters.opa.policies.watching._PATIENCE_SECONDS", 600
    )  # a stop is as long as two answers take this machine
    make(team)
    assembled, live = team / "build" / "policy", tmp_path / "site" / "policy"
    live.mkdir(parents=True)
    first = tmp_path / "first"
    shutil.copytree(assembled, first)
    for _ in WAYS[way](first, live) if way == "ConfigMap" else copied(sorted)(first, live):
        pass
    async with watched(configure(opa={"bundle": live, "timeout_ms": OPA_MS}), upstream, live) as observed:
        amend(team, 2)
        await asyncio.to_thread(make, team)
        for _ in WAYS[way](assembled, live):
            await observed.asked_again()
        await observed.in_force(assembled)

    assert nothing_was_amiss(observed, caplog)
