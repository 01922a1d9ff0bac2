"""The managed process: hardened, alive again after a kill, current with its directory, and gone with us."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from shlex import quote

import aiohttp
import pytest
from tests.adapters.opa.policies import CHUNK, short, write_policies

from regate_adapters.opa.engine import OpaEngine
from regate_adapters.opa.policies.source import BrokenPolicy
from regate_adapters.opa.server.process import ManagedOpa
from regate_adapters.testing.opa import RunningOpa, running_opa
from regate_orchestrator.errors import ConfigurationError, PolicyUnavailable
from regate_orchestrator.filters.expression import Matching
from regate_orchestrator.ports import Answer
from regate_orchestrator.values import JsonObject

DOCUMENT: JsonObject = {
    "principal": {"tenant": "acme", "teams": []},
    "chunk": {"tenant": "acme", "visibility": "tenant", "teams": [], "labels": []},
}
ORPHAN = """
import asyncio, sys
from pathlib import Path
from regate_adapters.opa.server.process import ManagedOpa

async def main():
    async with ManagedOpa(Path(sys.argv[1]), opa=Path(sys.argv[2])) as opa:
        print(opa.pid, opa.address.socket.parent, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def asked(engine: OpaEngine) -> Answer:
    return await engine.ask("regate/chunk/allow", DOCUMENT)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until the condition holds; how long that takes is the machine's."""
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.005)


async def test_killed_opa_answers_again(running: OpaEngine, managed: RunningOpa) -> None:
    killed = managed.process.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)

    async def answers_again() -> bool:
        try:
            return (await asked(running)).value is True and managed.process.pid != killed
        except PolicyUnavailable:
            return False

    await until(answers_again)


async def test_opa_killed_time_and_again_comes_back(running: OpaEngine, managed: RunningOpa) -> None:
    for restart in range(1, 4):

        async def alive(restart: int = restart) -> bool:
            return managed.process.restarts >= restart - 1 and managed.process.pid is not None

        await until(alive)
        os.kill(managed.process.pid or 0, signal.SIGKILL)

        async def restarted(restart: int = restart) -> bool:
            return managed.process.restarts >= restart

        await until(restarted)

    async def answers() -> bool:
        try:
            return (await asked(running)).defined
        except PolicyUnavailable:
            return False

    await until(answers)


async def test_changed_rule_comes_into_force_and_no_question_fails(
    running: OpaEngine, managed: RunningOpa, policies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "regate_adapters.opa.server.process._RELOAD_SECONDS", 30
    )  # or an OPA that is slow to load the change would be restarted
    before = await asked(running)
    (policies / "chunk" / "chunk.rego").write_text(
        CHUNK.replace('visibility == "tenant"', 'visibility == "nobody"'), encoding="utf-8"
    )

    async def refused() -> bool:
        answer = await asked(running)
        assert answer.value is (answer.revision == before.revision)
        return answer.value is False

    await until(refused)
    planned = await running.plan("regate/chunk/allow", {"principal": DOCUMENT["principal"]}, unknown="chunk")
    assert planned.revision == managed.process.revision != before.revision
    assert isinstance(planned.plan, Matching)
    assert '"nobody"' in short(planned.plan.expression)


async def test_changed_rule_is_in_force_when_opa_was_stopped_at_the_change(
    running: OpaEngine, managed: RunningOpa, policies: Path
) -> None:
    stopped = managed.process.pid
    assert stopped is not None
    os.kill(stopped, signal.SIGSTOP)
    (policies / "chunk" / "chunk.rego").write_text(
        CHUNK.replace('visibility == "tenant"', 'visibility == "nobody"'), encoding="utf-8"
    )

    async def refused() -> bool:
        try:
            return (await asked(running)).value is False
        except PolicyUnavailable:
            return False

    await until(refused)
    assert managed.process.pid != stopped


async def test_broken_change_keeps_the_old_policy_and_says_so_until_it_is_mended(
    running: OpaEngine, managed: RunningOpa, policies: Path
) -> None:
    before = await asked(running)
    rule = policies / "chunk" / "chunk.rego"
    rule.write_text("package regate.chunk\n\nallow if {", encoding="utf-8")

    async def told() -> bool:
        return managed.process.problem is not None

    await until(told)
    assert "chunk/chunk.rego:3: rego_parse_error" in (managed.process.problem or "")
    assert await asked(running) == before

    rule.write_text(CHUNK + "\nextra := 1\n", encoding="utf-8")

    async def mended() -> bool:
        return managed.process.problem is None and await running.revision() != before.revision

    await until(mended)


async def test_directory_that_vanishes_keeps_the_old_policy(
    running: OpaEngine, managed: RunningOpa, policies: Path
) -> None:
    before = await asked(running)
    policies.rename(policies.parent / "elsewhere")

    async def told() -> bool:
        return managed.process.problem is not None

    await until(told)
    assert await asked(running) == before


async def test_restart_after_a_broken_change_takes_the_last_good_policy(
    running: OpaEngine, managed: RunningOpa, policies: Path
) -> None:
    before = await asked(running)
    (policies / "chunk" / "chunk.rego").write_text("package regate.chunk\n\nallow if {", encoding="utf-8")

    async def told() -> bool:
        return managed.process.problem is not None

    await until(told)
    os.kill(managed.process.pid or 0, signal.SIGKILL)

    async def same_again() -> bool:
        try:
            return managed.process.restarts > 0 and await asked(running) == before
        except PolicyUnavailable:
            return False

    await until(same_again)


async def test_broken_policy_at_start_is_refused_and_leaves_nothing(policies: Path, opa: Path) -> None:
    (policies / "chunk" / "chunk.rego").write_text("package regate.chunk\n\nallow if {", encoding="utf-8")
    process = ManagedOpa(policies, opa=opa)

    with pytest.raises(BrokenPolicy):
        await process.__aenter__()
    assert process.pid is None
    assert not Path(process.address.socket or "/").parent.exists()


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        ("regate/quota/limits", "data.regate.quota.limits is missing"),
        ("regate/chunk/alow", "data.regate.chunk.alow is missing"),
        ("regate/extra/needs", "data.regate.extra.needs takes arguments"),
    ],
)
async def test_policy_without_a_rule_that_is_asked_for_is_refused_at_start(
    rule: str, fault: str, policies: Path, opa: Path
) -> None:
    write_policies(policies, {"extra.rego": "package regate.extra\n\nneeds(x) if x\n"})

    with pytest.raises(BrokenPolicy, match=fault):
        await ManagedOpa(policies, opa=opa, required=["regate/chunk/allow", rule]).__aenter__()


async def test_change_that_takes_a_needed_rule_away_keeps_the_old_policy(policies: Path) -> None:
    managed = running_opa(policies, required=["regate/chunk/deny_reasons"], deadline_s=10)
    async with managed as engine:
        before = await asked(engine)
        (policies / "chunk" / "chunk.rego").write_text(
            CHUNK.replace("deny_reasons", "denial_reasons"), encoding="utf-8"
        )

        async def told() -> bool:
            return managed.process.problem is not None

        await until(told)
        assert "data.regate.chunk.deny_reasons is missing" in (managed.process.problem or "")
        assert await asked(engine) == before


def opa_that(does: str, *, opa: Path, at: Path) -> Path:
    """An OPA that does this first when it is to serve."""
    wrapper = at / "opa"
    wrapper.write_text(
        f'#!/bin/sh\nif [ "$1" = run ]; then\n{does}\nfi\nexec {quote(str(opa))} "$@"\n', encoding="utf-8"
    )
    wrapper.chmod(0o755)
    return wrapper


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.__dict__["words"] for record in caplog.records if record.message == "opa_said"]


@pytest.mark.parametrize(
    ("does", "status", "words"),
    [
        ("exit 3", 3, ""),
        ("echo no socket; echo as I said >&2; exit 3", 3, "no socket; as I said"),
        ("printf 'without an end'; exit 3", 3, "without an end"),
        ('exec "$0" run --surprise', 1, "unknown flag: --surprise"),
        ("kill -9 $$", -9, ""),
    ],
)
async def test_opa_that_cannot_start_is_refused_in_its_own_words(
    does: str,
    status: int,
    words: str,
    policies: Path,
    tmp_path: Path,
    opa: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    wrapper = opa_that(does.replace("$0", str(opa)), opa=opa, at=tmp_path)

    with pytest.raises(
        ConfigurationError, match=re.escape(f"OPA ended while it started (status {status}): ")
    ) as refused:
        await ManagedOpa(policies, opa=wrapper).__aenter__()
    assert (words or "it said nothing") in refused.value.message
    assert words in "; ".join("\n".join(said(caplog)).splitlines())


async def test_opa_that_is_not_there_is_refused(policies: Path, opa: Path, tmp_path: Path) -> None:
    wrapper = opa_that(f'rm "$0"; exec {quote(str(tmp_path))}/absent', opa=opa, at=tmp_path)

    with pytest.raises(ConfigurationError, match=r"status 127\): .*/absent: not found"):
        await ManagedOpa(policies, opa=wrapper).__aenter__()


async def test_opa_that_does_not_answer_in_time_is_refused_in_its_own_words(
    policies: Path, tmp_path: Path, opa: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regate_adapters.opa.server.process._START_SECONDS", 1)
    wrapper = opa_that("echo I am thinking; exec sleep 600", opa=opa, at=tmp_path)

    with pytest.raises(
        ConfigurationError, match=r"OPA did not answer within 1 s of its start \(status -9\): I am thinking"
    ):
        await ManagedOpa(policies, opa=wrapper).__aenter__()


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize(
    "line", ["short line\n", "x" * 2_000_000 + "\n", "x" * 2_000_000], ids=["lines", "one line", "no line"]
)
async def test_opa_that_says_two_megabytes_first_comes_up_and_all_is_logged(
    line: str, stream: str, policies: Path, tmp_path: Path, opa: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = (line * (2_000_000 // len(line) + 1))[:2_000_000]
    (tmp_path / "talk.py").write_text(
        f"import sys\nsys.{stream}.write(open({str(tmp_path / 'text')!r}).read())\n"
    )
    (tmp_path / "text").write_text(text)
    wrapper = opa_that(f"{quote(sys.executable)} -I -S {quote(str(tmp_path))}/talk.py", opa=opa, at=tmp_path)

    async with ManagedOpa(policies, opa=wrapper) as process:
        assert process.pid is not None
    words = [one for one in said(caplog) if not one.startswith("{")]
    assert max(map(len, words)) <= 4096
    assert "".join(words).replace("\n", "").startswith(text.replace("\n", ""))


async def test_what_opa_says_while_it_serves_is_logged_and_never_holds_it_up(
    policies: Path, tmp_path: Path, opa: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "talk.py").write_text(
        "import os, sys, time\nwhile not os.path.exists('go'): time.sleep(0.05)\nprint('words\\n' * "
        "10**5, 'the end')\n"
    )
    wrapper = opa_that(
        f"{quote(sys.executable)} -I -S {quote(str(tmp_path))}/talk.py &", opa=opa, at=tmp_path
    )

    async with (
        ManagedOpa(policies, opa=wrapper) as process,
        OpaEngine(process.address, schemas={}, deadline_s=20) as engine,
    ):
        (process.directory.parent / "go").touch()

        async def ended() -> bool:
            return (await asked(engine)).defined and any("the end" in words for words in said(caplog))

        await until(ended)
    assert sum(words.splitlines().count("words") for words in said(caplog)) == 10**5


async def test_last_words_of_an_opa_that_dies_are_logged(
    policies: Path, tmp_path: Path, opa: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dies = (
        f'{quote(str(opa))} "$@" & child=$!; while [ ! -e go ]; do sleep 0.05; done; echo farewell >&2; '
        "kill -9 $child; exit 7"
    )
    wrapper = opa_that(dies, opa=opa, at=tmp_path)

    async with ManagedOpa(policies, opa=wrapper) as process, asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(process.watch())
        (process.directory.parent / "go").touch()

        async def told() -> bool:
            return any(record.message == "opa_died" for record in caplog.records)

        await until(told)
        watching.cancel()
    died = next(record for record in caplog.records if record.message == "opa_died")
    assert ("farewell" in said(caplog), died.__dict__["status"]) == (True, 7)


async def test_leaving_ends_the_process_and_removes_its_files(policies: Path) -> None:
    managed = running_opa(policies)
    async with managed:
        pid, socket = managed.process.pid, managed.process.address.socket
        assert pid is not None
        assert socket is not None

    assert not is_running(pid)
    assert not socket.parent.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
async def test_our_own_sudden_death_leaves_no_opa_running(policies: Path, opa: Path) -> None:
    paths = os.pathsep.join(path for path in sys.path if path)
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", ORPHAN, str(policies), str(opa)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert child.stdout is not None
    first, private = (await child.stdout.readline()).decode().split()
    pid = int(first)
    assert is_running(pid)
    child.kill()
    await child.wait()
    shutil.rmtree(private)

    async def gone() -> bool:
        return not is_running(pid)

    await until(gone)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_neither_command_line_nor_environment_of_opa_holds_a_secret(
    running: OpaEngine, managed: RunningOpa
) -> None:
    token = (managed.process.address.token or "").encode()
    process = Path(f"/proc/{managed.process.pid}")

    assert token
    assert token not in (process / "cmdline").read_bytes()
    assert (process / "environ").read_bytes() == b"GOGC=400\0"


async def test_only_this_user_can_reach_socket_and_token(running: OpaEngine, managed: RunningOpa) -> None:
    socket = managed.process.address.socket
    assert socket is not None

    assert socket.parent.stat().st_mode & 0o777 == 0o700
    assert len(os.fsencode(socket)) < 104


FORBIDDEN = [
    ("POST", "/v1/data/regate/chunk/allow", None),
    ("POST", "/v1/data/regate/chunk/allow", "x" * 43),
    ("POST", "/v1/compile", None),
    ("PUT", "/v1/policies/mine", None),
    ("PUT", "/v1/policies/mine", "gateway"),
    ("DELETE", "/v1/policies/chunk", "gateway"),
    ("PUT", "/v1/data/regate/x", "gateway"),
    ("PATCH", "/v1/data/regate/x", "gateway"),
    ("GET", "/v1/data/system", "gateway"),
    ("POST", "/v1/data/system", "gateway"),
    ("POST", "/v1/data", "gateway"),
    ("POST", "/", "gateway"),
    ("GET", "/v1/policies", "gateway"),
    ("GET", "/v1/config", "gateway"),
]


async def test_opa_serves_decisions_to_the_gateway_and_nothing_else(
    running: OpaEngine, managed: RunningOpa
) -> None:
    address = managed.process.address
    statuses = {}
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(address.socket))) as session:
        for method, path, token in FORBIDDEN:
            shown = address.token if token == "gateway" else token
            headers = {"Authorization": f"Bearer {shown}"} if shown else {}
            async with session.request(method, f"http://opa{path}", data=b"{}", headers=headers) as response:
                statuses[method, path, token] = response.status

    assert statuses == dict.fromkeys(FORBIDDEN, 401)


def is_running(pid: int) -> bool:
    """Return whether the process still runs; one that ended and waits to be reaped does not."""
    try:
        os.kill(pid, 0)
        return b"opa" in Path(f"/proc/{pid}/cmdline").read_bytes() if sys.platform == "linux" else True
    except (ProcessLookupError, FileNotFoundError):
        return False
