"""A fleet on this machine: PostgreSQL with pgvector, Redis, and two gateways of two workers and one OPA each.

`pytest --fleet` has the tests of the API ask it, one request at the one gateway and the next at the other
(`make fleet`). `python -m tests.fleet --upstream URL` runs it until interrupted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg
from psycopg import sql
from tests.deployments import VARIABLE, Deployment, on_postgres
from tests.postgres import Postgres, running_postgres
from tests.redis_server import RedisServer, running_redis

from regate_adapters.testing.ports import free_port
from regate_gateway.auth.authentication import development_secret, shared_secret
from regate_gateway.config.settings import Settings

GATEWAYS: Final = 2
WORKERS: Final = 2
_START_SECONDS: Final = 120.0
_ATTEMPTS: Final = 5
_SEALING: Final = "SEALING_KEY"


@dataclass(frozen=True, slots=True)
class Fleet:
    """The gateways, and what they share."""

    urls: tuple[str, ...]
    settings: tuple[Settings, ...]
    deployment: Deployment
    postgres: Postgres
    redis: RedisServer
    kept: frozenset[tuple[str, str]]
    """Tables that hold something before anybody has asked for anything."""

    def clear(self) -> None:
        """Forget all that clients made."""
        gone = sorted(set(self._tables()) - self.kept)
        names = sql.SQL(", ").join(sql.Identifier(*name) for name in gone)
        statement = sql.SQL("TRUNCATE {} CASCADE").format(names)
        for attempt in range(_ATTEMPTS):
            try:
                self.postgres.execute(statement, database=self._database)
                break
            except psycopg.errors.DeadlockDetected:  # the gateways' own work goes on meanwhile
                assert attempt < _ATTEMPTS - 1
        self.redis.forget()

    def _tables(self) -> list[tuple[str, str]]:
        return tables_of(self.postgres, self._database)

    @property
    def _database(self) -> str:
        return self.deployment.url.rpartition("/")[2]


def alternating(urls: Sequence[str]) -> Callable[[Any], Awaitable[None]]:
    """Return a hook of an HTTP client that sends each request to another gateway than the one before."""
    places = itertools.cycle(urlsplit(url) for url in urls)

    async def redirect(request: Any) -> None:
        to = next(places)
        request.url = request.url.copy_with(host=to.hostname, port=to.port)
        request.headers["host"] = to.netloc

    return redirect


def tables_of(postgres: Postgres, database: str) -> list[tuple[str, str]]:
    """Return all tables in the database that are a gateway's, each with its schema first."""
    found = postgres.execute(
        sql.SQL(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('public', 'regate_vectors')"
        ),
        database=database,
    )
    return [(schema, table) for schema, table in found]


@contextmanager
def running_fleet(upstream: str, *, ports: Sequence[int] = ()) -> Iterator[Fleet]:
    """Enter with the fleet answering before this upstream, on these ports or on free ones."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="regate-fleet-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        postgres = stack.enter_context(running_postgres(18))
        redis = stack.enter_context(running_redis())
        deployment = stack.enter_context(on_postgres(postgres))
        each = [
            _settings(folder, number, port, upstream, redis.url(), deployment)
            for number, port in enumerate([*ports] or [free_port() for _ in range(GATEWAYS)])
        ]
        secret = shared_secret(each[0])
        for settings in each[1:]:
            own = development_secret(settings)
            assert own is not None
            own.parent.mkdir(parents=True)
            own.write_text(secret.reveal())
            own.chmod(0o600)
        urls = [f"http://127.0.0.1:{settings.listen.port}" for settings in each]
        for settings in each:
            stack.enter_context(_serving(settings, deployment))
        for url in urls:
            _wait_for(url)
        database = deployment.url.rpartition("/")[2]
        kept = {
            name
            for name in tables_of(postgres, database)
            if postgres.execute(
                sql.SQL("SELECT 1 FROM {} LIMIT 1").format(sql.Identifier(*name)), database=database
            )
        }
        yield Fleet(tuple(urls), tuple(each), deployment, postgres, redis, frozenset(kept))


@contextmanager
def listing_models(port: int) -> Iterator[None]:
    """Have an upstream at this port that says which models it has, and no more."""

    class Models(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.end_headers()
            entries = [{"id": name, "object": "model"} for name in ("small", "large")]
            self.wfile.write(json.dumps({"object": "list", "data": entries}).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Models) as server, ThreadPoolExecutor(1) as beside:
        beside.submit(server.serve_forever)
        try:
            yield
        finally:
            server.shutdown()


def _settings(
    folder: Path, number: int, port: int, upstream: str, redis: str, deployment: Deployment
) -> Settings:
    values: dict[str, Any] = {
        "data_dir": folder / f"gateway-{number}",
        "listen": {"port": port, "workers": WORKERS},
        "upstreams": [{"name": "scripted", "base_url": upstream}],
        "opa": {"timeout_ms": 60_000},
        "files": {"path": folder / "files"},
        "redis": {"url": redis},
        "telemetry": {"access_log": False},
        **deployment.settings,
        "state": {**deployment.state, "sealing_key_env": _SEALING},
    }
    return Settings.model_validate(values)


@contextmanager
def _serving(settings: Settings, deployment: Deployment) -> Iterator[None]:
    config = settings.data_dir / "regate.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(json.dumps(settings.model_dump(mode="json", exclude_unset=True)))
    environment = {**os.environ, VARIABLE: deployment.url, _SEALING: "s" * 40}
    with subprocess.Popen(
        [sys.executable, "-m", "regate_gateway", "serve", "--config", str(config)], env=environment
    ) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)


def _wait_for(url: str) -> None:
    give_up = time.monotonic() + _START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{url}/metrics") as answer:
                if f"regate_workers {WORKERS:.1f}" in answer.read().decode():
                    return
        except urllib.error.URLError:
            pass
        assert time.monotonic() < give_up, f"{url} does not answer"
        time.sleep(0.1)


def main() -> None:
    """Run the fleet until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tests.fleet", description=__doc__)
    parser.add_argument("--upstream", required=True, help="A backend's base URL, up to and including /v1.")
    parser.add_argument("--ports", type=int, nargs=GATEWAYS, default=(), help="The gateways' ports.")
    given = parser.parse_args()
    with running_fleet(given.upstream, ports=given.ports) as fleet:
        token = f"regate token --data-dir {fleet.settings[0].data_dir} --sub alice --tenant acme"
        print(f"serving {' and '.join(f'{url}/v1' for url in fleet.urls)}; tokens: {token}", flush=True)
        with suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
