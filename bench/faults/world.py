"""Everything that the fault table is about, running: servers, the network between, a model and two gateways.

Gateway `a` runs an OPA of its own, gateway `b` asks one that runs beside it. Both share PostgreSQL, a Chroma server,
Redis, and one directory for files. Each of these is reached over a link that can be broken.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml
from aiohttp import web
from tests.chroma_server import ChromaRun, running_chroma
from tests.deployments import on_postgres
from tests.e2e.crashing import chat, modelled
from tests.link import Link
from tests.opa_sidecar import Sidecar, sidecar
from tests.postgres import Postgres, running_postgres
from tests.programs import children
from tests.redis_server import RedisServer, running_redis

from bench.faults.watching import Watch
from bench.gateway import AUTH, SECRET, free_port, until_answering
from regate_gateway.workbench.directory import shipped_policies

ENGINES: Final = {"acme": "postgres", "globex": "postgres", "initech": "chroma", "umbrella": "chroma"}
"""The tenants, two on each vector engine."""

MANAGED, BESIDE = "a", "b"
WORKERS: Final = 2
"""How many gateway `a` has."""
_LIMIT: Final = {"default": {"rpm": 500_000}, "tenants": {}, "roles": {}}
"""A limit that nobody reaches: so Redis is asked of each request."""


@dataclass
class GatewayProcess:
    """A gateway that can be killed and started again, with its data and on its port."""

    name: str
    port: int
    folder: Path
    environment: dict[str, str]
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it; it answers then."""
        with (self.folder / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(
                    sys.executable,
                    "-m",
                    "regate_gateway",
                    "serve",
                    "--config",
                    str(self.folder / "regate.yaml"),
                ),
                env={**os.environ, **self.environment, "BENCH_TOKEN_SECRET": SECRET},
                stdout=log,
                stderr=log,
            )
        await until_answering(f"{self.url}/healthz", self.process)

    async def kill(self) -> None:
        """Kill it with what it started."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def end(self) -> None:
        """End it as a supervisor does."""
        if self.process is not None and self.process.returncode is None:
            self.process.terminate()
            try:
                async with asyncio.timeout(30):
                    await self.process.wait()
            except TimeoutError:
                await self.kill()

    def kill_opa(self) -> None:
        """Kill the OPA that it runs."""
        assert self.process is not None
        for child in children(self.process.pid, "--server"):
            os.kill(child, signal.SIGKILL)

    def kill_worker(self) -> None:
        """Kill one of its workers."""
        assert self.process is not None
        os.kill(children(self.process.pid, "regate_gateway.workers.worker")[0], signal.SIGKILL)


@dataclass
class World:
    """All that runs."""

    folder: Path
    watch: Watch
    postgres: Postgres
    redis: RedisServer
    chroma: ChromaRun
    opa: Sidecar
    links: dict[str, Link] = field(default_factory=dict)
    gateways: dict[str, GatewayProcess] = field(default_factory=dict)

    def look(self) -> None:
        """Look at what the gateways wrote down since the last time."""
        for gateway in self.gateways.values():
            self.watch.files(
                gateway.folder / "log",
                *gateway.folder.glob("data/audit*"),
                *gateway.folder.glob("data/audit/worker-*"),
            )


@asynccontextmanager
async def running_world(watch: Watch) -> AsyncIterator[World]:
    """Enter with everything answering; all of it is ended on leaving."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="regate-faults-")))
        placement = dict(ENGINES)
        data = {"placement": placement, "scoped_quotas": {**_nobody(), "persons": _LIMIT}}
        (folder / "chroma").mkdir()
        # A commit is acknowledged once it is written: what the other tests do without.
        postgres = stack.enter_context(running_postgres(18, synchronous_commit="on"))
        world = World(
            folder,
            watch,
            postgres,
            stack.enter_context(running_redis()),
            stack.enter_context(running_chroma(folder / "chroma", free_port())),
            stack.enter_context(sidecar(folder / "opa", {}, **data)),
        )
        database = stack.enter_context(on_postgres(postgres)).url
        model = await stack.enter_async_context(_model(watch))
        for name, port in {
            "opa": world.opa.port,
            "postgres": postgres.port,
            "redis": world.redis.port,
            "chroma": world.chroma.port,
            "upstream": model,
        }.items():
            world.links[name] = await stack.enter_async_context(Link(port))
        policies = _policies(folder, data)
        for name in (MANAGED, BESIDE):
            opa: dict[str, Any] = {"bundle": str(policies)}
            if name == BESIDE:
                opa = {"mode": "remote", "url": f"http://127.0.0.1:{world.links['opa'].port}"}
            gateway = _gateway(
                world, name, database.replace(f":{postgres.port}/", f":{world.links['postgres'].port}/"), opa
            )
            world.gateways[name] = gateway
            stack.push_async_callback(gateway.end)
            await gateway.start()
        yield world


def _nobody() -> dict[str, Any]:
    return {"persons": {}, "roles": {}, "tenants": {}, "models": {}}


def _policies(folder: Path, data: dict[str, Any]) -> Path:
    policies = Path(shutil.copytree(shipped_policies(), folder / "rego"))
    documents = json.loads((policies / "data.json").read_text())
    documents["regate"] |= data
    (policies / "data.json").write_text(json.dumps(documents))
    return policies


def _gateway(world: World, name: str, database: str, opa: dict[str, Any]) -> GatewayProcess:
    """Return a gateway with its configuration written. Its limits are the product's own."""
    folder, links = world.folder / name, world.links
    folder.mkdir()
    gateway = GatewayProcess(name, free_port(), folder, {"FAULTS_DATABASE_URL": database})
    settings = {
        "data_dir": str(folder / "data"),
        "listen": {
            "port": gateway.port,
            "shutdown_notice_s": 0,
            "shutdown_grace_s": 2,
            "workers": WORKERS if name == MANAGED else 1,
        },
        "upstreams": [{"name": "model", "base_url": f"http://127.0.0.1:{links['upstream'].port}/v1"}],
        "auth": AUTH,
        "opa": opa,
        "state": {"url_env": "FAULTS_DATABASE_URL"},
        "vector": {
            "default": "postgres",
            "stores": {
                "postgres": {"kind": "pgvector", "url_env": "FAULTS_DATABASE_URL"},
                "chroma": {"kind": "chroma_server", "url": f"http://127.0.0.1:{links['chroma'].port}"},
            },
        },
        "files": {"path": str(world.folder / "files")},
        "redis": {"url": f"redis://127.0.0.1:{links['redis'].port}/0"},
        "telemetry": {"access_log": False},
    }
    (folder / "regate.yaml").write_text(yaml.safe_dump(settings))
    return gateway


@asynccontextmanager
async def _model(watch: Watch) -> AsyncIterator[int]:
    """Enter with the model served, each of whose prompts is looked at; yields its port."""

    async def answer(request: web.Request) -> web.StreamResponse:
        watch.prompt((await request.read()).decode(errors="replace"))
        return await chat(request)

    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # callers that go are what this is about
    async with modelled(answer) as url:
        yield int(urlsplit(url).port or 0)
