"""The gateway as a process of its own: started by its command, killed in the middle, started again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import pytest
import yaml
from aiohttp import web
from tests.e2e.conftest import ScriptedUpstream
from tests.programs import children

from regate_adapters.identity.jwt import mint_development_token
from regate_adapters.testing.ports import free_port

SECRET = "a-secret-for-tests-of-more-than-32-bytes"
JWT = {"issuer": "tests", "audience": "regate", "algorithms": ["HS256"], "secret_env": "TOKEN_SECRET"}


@asynccontextmanager
async def served(
    data_dir: Path, upstream: str, *, listening: Mapping[str, Any] = MappingProxyType({}), **more: Any
) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """Enter with `regate serve` answering; it is ended on leaving, if it still runs."""
    port = free_port()
    config = data_dir / "regate.yaml"
    values = {
        "data_dir": str(data_dir),
        "listen": {"port": port, "shutdown_notice_s": 0, **listening},
        "upstreams": [{"name": "u", "base_url": upstream}],
        "opa": {"timeout_ms": 60_000},
        "auth": {"jwt": JWT},
        "vector": {"stores": {"main": {"kind": "memory"}}},
        **more,
    }
    config.write_text(yaml.safe_dump(values))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "regate_gateway", "serve", "--config", str(config)),
        env={**os.environ, "TOKEN_SECRET": SECRET},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(90), httpx.AsyncClient() as http:
            while True:
                try:
                    if (await http.get(f"{url}/healthz")).status_code == 200:
                        break
                except httpx.TransportError:
                    assert process.returncode is None
                    await asyncio.sleep(0.05)
        yield url, process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def headers() -> dict[str, str]:
    token = mint_development_token(
        SECRET.encode(), issuer="tests", audience="regate", subject="alice", tenant="acme", ttl_s=600
    )
    return {"Authorization": f"Bearer {token}"}


async def hanging(upstream: ScriptedUpstream, request: web.Request) -> web.StreamResponse:
    """Say a word, and then nothing more until the caller is gone."""
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    await response.write(
        b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": "Half"}}]}).encode() + b"\n\n"
    )
    while request.transport is not None and not request.transport.is_closing():
        await asyncio.sleep(0.02)
    return response


async def killed_in_mid_stream(http: httpx.AsyncClient, process: asyncio.subprocess.Process) -> str:
    """Kill the gateway at the first delta of a streamed response; return the response's id."""
    identifier = ""
    try:
        async with http.stream(
            "POST", "/v1/responses", json={"model": "small", "input": "Hi", "stream": True}
        ) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data: ") and not identifier:
                    identifier = json.loads(line[6:])["response"]["id"]
                if "output_text.delta" in line:
                    process.send_signal(signal.SIGKILL)
    except httpx.TransportError:
        return identifier
    raise AssertionError("the stream ended as if nothing had happened")


async def test_response_in_progress_when_the_process_was_killed_is_failed_after_the_restart(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    upstream.turns = [hanging]
    async with (
        served(tmp_path, upstream.url) as (url, process),
        httpx.AsyncClient(base_url=url, headers=headers(), timeout=60) as http,
    ):
        identifier = await killed_in_mid_stream(http, process)
    async with (
        served(tmp_path, upstream.url) as (url, _),
        httpx.AsyncClient(base_url=url, headers=headers(), timeout=60) as http,
    ):
        stored = (await http.get(f"/v1/responses/{identifier}")).json()

    assert (stored["status"], stored["error"]["code"]) == ("failed", "server_error")


async def test_no_opa_outlives_the_gateway(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async with served(tmp_path, upstream.url) as (_, process):
        (opa,) = children(process.pid, "--server")
        process.send_signal(signal.SIGKILL)
        await process.wait()
        async with asyncio.timeout(120):
            while Path(f"/proc/{opa}").exists() and "Z" not in _state(opa):
                await asyncio.sleep(0.02)

    assert not Path(f"/proc/{opa}").exists() or "Z" in _state(opa)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"listen": {"host": "0.0.0.0"}}, "auth"),
        ({"listen": {"host": "0.0.0.0"}, "auth": {"anonymous": True}}, "anonymous"),
        ({"unheard_of": 1}, "unheard_of"),
        ({"upstreams": [{"name": "u", "base_url": "ftp://x"}]}, "base_url"),
    ],
)
async def test_unsafe_configuration_does_not_start(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    config = tmp_path / "regate.yaml"
    config.write_text(yaml.safe_dump({"data_dir": str(tmp_path)} | changes))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "regate_gateway", "serve", "--config", str(config)),
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()

    assert process.returncode == 1
    assert said in errors.decode()
