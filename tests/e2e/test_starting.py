"""What `regate serve` says at its start: once that it answers, or once why it does not."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import shlex
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

SMALL = {
    "vector": {"stores": {"main": {"kind": "memory"}}},
    "listen": {"port": 0, "shutdown_notice_s": 0},
    "opa": {"timeout_ms": 60_000},
}
COMMAND = (sys.executable, "-m", "regate_gateway")


@asynccontextmanager
async def serving(*arguments: str, cwd: Path, stderr: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Enter with `regate serve` begun; it has ended on leaving."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        "serve",
        *arguments,
        cwd=cwd,
        env=environment(),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=stderr,
    )
    try:
        async with asyncio.timeout(120):
            yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("REGATE_")}


async def logged(process: asyncio.subprocess.Process, message: str) -> dict[str, Any]:
    """The first line of the log with this message."""
    assert process.stderr is not None
    async for line in process.stderr:
        if (record := json.loads(line))["message"] == message:
            return dict(record)
    raise AssertionError(f"nothing was logged as {message}")


async def test_start_is_told_step_by_step_then_once_that_it_answers_and_how_to_get_a_token(
    tmp_path: Path,
) -> None:
    here, elsewhere = tmp_path / "here and there", tmp_path / "elsewhere"
    here.mkdir()
    elsewhere.mkdir()
    (here / "regate.yaml").write_text(yaml.safe_dump(SMALL))
    async with serving("--data-dir", "kept", cwd=here, stderr=asyncio.subprocess.PIPE) as process:
        step = await logged(process, "starting")
        said = await logged(process, "serving")
        hint = (await logged(process, "development_mode"))["command"]
        token = subprocess.run(shlex.split(hint), cwd=elsewhere, capture_output=True, text=True, check=True)
        async with httpx.AsyncClient(
            base_url=said["address"], headers={"Authorization": f"Bearer {token.stdout.strip()}"}
        ) as http:
            answer = await http.get("/vector_stores")

    assert (answer.status_code, token.stderr, bool(step["detail"])) == (200, "", True)
    assert (said["configuration"], said["data_dir"]) == (str(here / "regate.yaml"), str(here / "kept"))
    assert (
        said["address"].startswith("http://127.0.0.1:"),
        bool(said["version"]),
        len(said["revision"]) > 8,
    ) == (True, True, True)


async def test_at_a_terminal_one_line_of_text_says_that_it_answers(tmp_path: Path) -> None:
    (tmp_path / "regate.yaml").write_text(yaml.safe_dump(SMALL))
    outer, inner = pty.openpty()
    terminal = os.fdopen(outer, "rb", buffering=0)
    async with serving(cwd=tmp_path, stderr=inner):
        os.close(inner)
        lines = await asyncio.to_thread(
            lines_until, terminal, b"Development tokens: export OPENAI_API_KEY=$("
        )
    terminal.close()

    said = [line for line in lines if line.startswith(b"Regate ")]
    assert len(said) == 1
    assert (
        b"serves http://127.0.0.1:" in said[0],
        b"policy: " in said[0],
        f"data: {tmp_path / 'data'}".encode() in said[0],
    ) == (
        True,
        True,
        True,
    )


async def test_gateway_that_was_told_to_end_is_not_ready_and_answers_until_it_listens_no_more(
    tmp_path: Path,
) -> None:
    (tmp_path / "regate.yaml").write_text(
        yaml.safe_dump(SMALL | {"listen": {"port": 0, "shutdown_notice_s": 600}})
    )
    async with serving(cwd=tmp_path, stderr=asyncio.subprocess.PIPE) as process:
        url = (await logged(process, "serving"))["address"].removesuffix("/v1")
        async with httpx.AsyncClient(base_url=url) as http:
            process.terminate()
            while (ready := await http.get("/readyz")).json()["status"] != "ending":
                pass
            alive = await http.get("/healthz")
        process.terminate()
        await process.communicate()

    assert (ready.status_code, alive.status_code) == (503, 200)


def lines_until(terminal: Any, beginning: bytes) -> list[bytes]:
    lines: list[bytes] = []
    for line in iter(terminal.readline, b""):
        lines.append(line)
        if line.startswith(beginning):
            return lines
    raise AssertionError(lines)


def _address_in_use(folder: Path) -> dict[str, Any]:
    taken = socket.create_server(("127.0.0.1", 0))
    KEPT.append(taken)
    return {"listen": {"port": taken.getsockname()[1]}}


KEPT: list[socket.socket] = []


@pytest.fixture
def kept() -> Iterator[None]:
    """Sockets that are kept open until the test has ended."""
    yield
    while KEPT:
        KEPT.pop().close()


def _policy_directory_without_policies(folder: Path) -> dict[str, Any]:
    (folder / "empty").mkdir()
    return {"opa": {"bundle": "empty"}}


def _database_that_is_a_directory(folder: Path) -> dict[str, Any]:
    (folder / "regate.db").mkdir()
    return {"state": {"url": "sqlite:///regate.db"}}


def _opa_that_is_none(folder: Path) -> dict[str, Any]:
    return {"opa": {"binary": "/bin/false"}}


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (_address_in_use, "cannot be bound"),
        (_policy_directory_without_policies, "empty"),
        (_database_that_is_a_directory, "state.url"),
        (_opa_that_is_none, "opa.binary: /bin/false is no OPA that runs here"),
    ],
)
@pytest.mark.usefixtures("kept")
async def test_gateway_that_cannot_start_says_why_once_and_never_that_it_serves(
    tmp_path: Path, broken: Callable[[Path], dict[str, Any]], said: str
) -> None:
    (tmp_path / "regate.yaml").write_text(yaml.safe_dump(SMALL | broken(tmp_path)))
    async with serving(cwd=tmp_path, stderr=asyncio.subprocess.PIPE) as process:
        _, errors = await process.communicate()
    lines = errors.decode().splitlines()
    told = [line for line in lines if not line.startswith("{") or json.loads(line)["level"] != "info"]

    assert process.returncode == 1
    assert (
        len([line for line in told if line.startswith("regate: ")]),
        [line for line in told if line.startswith("{")],
    ) == (1, [])
    assert said in told[0]
    assert not any("serving" in line for line in lines)
