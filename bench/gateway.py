"""A gateway in a process of its own, as users run it, and clients for its principals."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml

from bench.processes import resident_mib
from regate_adapters.identity.jwt import mint_development_token

SECRET = "bench-only-secret-0123456789-0123456789"
ISSUER, AUDIENCE = "regate-bench", "regate"


AUTH: Final = {
    "jwt": {
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "algorithms": ["HS256"],
        "secret_env": "BENCH_TOKEN_SECRET",
    }
}
"""Settings of a gateway that takes the tokens of `token`, with `SECRET` in that variable."""


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """A gateway that answers at `url`, and what it took to start it."""

    url: str
    process: asyncio.subprocess.Process
    data_dir: Path
    start_seconds: float

    def resident_mib(self) -> float:
        """Return the resident memory of the gateway's own process (without OPA), in MiB."""
        return resident_mib(self.process.pid)


def token(subject: str, tenant: str, *, teams: tuple[str, ...] = (), roles: tuple[str, ...] = ()) -> str:
    """Return a token that the benchmark's gateway accepts."""
    return mint_development_token(
        SECRET.encode(),
        issuer=ISSUER,
        audience=AUDIENCE,
        subject=subject,
        tenant=tenant,
        teams=teams,
        roles=roles,
        projects=(),
        namespaces=(),
        scopes=(),
        clearance=0,
        ttl_s=86_400,
    )


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def running_gateway(
    upstream: str | None = None,
    *,
    open_files: int | None = None,
    more: Mapping[str, Any] | None = None,
    prefix: tuple[str, ...] = (),
    data_dir: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[RunningGateway]:
    """Enter with a gateway, which may open so many files, has more settings and variables beside the usual, and
    is started by a command before its own. Without a directory it is a fresh one, whose data goes with it.
    """
    with ExitStack() as stack:
        data_dir = data_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="regate-bench-")))
        port = free_port()
        settings = {
            "data_dir": str(data_dir),
            "listen": {"port": port},
            "upstreams": [{"name": "bench", "base_url": upstream}] if upstream else [],
            "auth": AUTH,
            "opa": {"timeout_ms": 60_000},  # a busy machine is to be slow, and not refused
            "telemetry": {"access_log": False, "log_level": "warning"},
        } | dict(more or {})
        config = data_dir / "regate.yaml"
        config.write_text(yaml.safe_dump(settings), encoding="utf-8")
        began = time.perf_counter()
        limited = ("prlimit", f"--nofile={open_files}:{open_files}") if open_files else ()
        process = await asyncio.create_subprocess_exec(
            *(*prefix, *limited, sys.executable, "-m", "regate_gateway", "serve", "--config", str(config)),
            env={**os.environ, **(environment or {}), "BENCH_TOKEN_SECRET": SECRET},
        )
        url = f"http://127.0.0.1:{port}"
        try:
            await until_answering(f"{url}/healthz", process)
            yield RunningGateway(url, process, data_dir, time.perf_counter() - began)
        finally:
            process.terminate()
            await process.wait()


@asynccontextmanager
async def running_backend(module: str) -> AsyncIterator[str]:
    """Enter with the backend that a module runs (`--port N`), in a process of its own."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", module, "--port", str(port))
    url = f"http://127.0.0.1:{port}/v1"
    try:
        await until_answering(f"{url}/models", process)
        yield url
    finally:
        process.terminate()
        await process.wait()


async def until_answering(url: str, process: asyncio.subprocess.Process) -> None:
    """Return when the process answers a GET of this URL. Raises `RuntimeError` when it ended before."""
    async with asyncio.timeout(600), aiohttp.ClientSession() as session:
        while process.returncode is None:
            try:
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                await asyncio.sleep(0.02)
    raise RuntimeError(f"what should answer at {url} ended before it did")


def percentile(values: list[float], share: float) -> float:
    """Return a percentile by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
