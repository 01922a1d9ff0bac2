"""The model, a server of tools (`tickets`) and a gateway before them in one process of their own, for clients
that run in another: `python -m tests.clients.serving`.

It prints one line of JSON that says where everything is, and ends with its standard input, so that nothing
outlives the client. The process may have another interpreter than the client's (`REGATE_PYTHON`), since some
clients cannot be installed beside the gateway.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.clients.model import running_model
from tests.patience import wait_patiently

ROOT = Path(__file__).parents[2]
_UPSTREAM = "REGATE_TESTS_UPSTREAM"
PEOPLE = {"alice": "acme", "bob": "acme", "eve": "globex"}


@dataclass(frozen=True, slots=True)
class Served:
    """Where the gateway, the model and the server of tools answer, and a token of each person."""

    url: str
    model: str
    tickets: str
    tokens: dict[str, str]

    @property
    def token(self) -> str:
        """Alice's."""
        return self.tokens["alice"]

    def scenes(self, command: Sequence[str | Path], **options: Any) -> dict[str, Any]:
        """Run a client's program as Alice; return what each of its scenes brought, of which it prints
        a line of JSON each.
        """
        environment = {**os.environ, "OPENAI_BASE_URL": self.url, "OPENAI_API_KEY": self.token}
        said = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, timeout=200, check=True, **options
        ).stdout
        scenes = [json.loads(line) for line in said.splitlines()]
        return {scene["scene"]: scene.get("result", scene.get("error")) for scene in scenes}

    def asked(self) -> list[dict[str, Any]]:
        """All chat requests that reached the model so far, the latest last."""
        with urllib.request.urlopen(f"{self.model}/requests") as answer:
            requests: list[dict[str, Any]] = json.load(answer)
            return requests

    def websockets(self) -> int:
        """How many connections became WebSockets so far and have ended."""
        with urllib.request.urlopen(self.url.removesuffix("/v1") + "/metrics") as answer:
            text = answer.read().decode()
        counted = re.search(
            r'^regate_requests_total\{method="GET",route="/v1/responses",status="101"\} ([0-9.]+)$',
            text,
            re.MULTILINE,
        )
        return int(float(counted.group(1))) if counted else 0


@contextmanager
def served(upstream: dict[str, Any] | None = None) -> Iterator[Served]:
    """Enter with the process answering, before this upstream instead of the model; it has ended on
    leaving.
    """
    path = os.pathsep.join(str(ROOT / folder) for folder in ("orchestrator", "adapters", "gateway", "."))
    process = subprocess.Popen(
        [os.environ.get("REGATE_PYTHON", sys.executable), "-m", "tests.clients.serving"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, _UPSTREAM: json.dumps(upstream)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, "the gateway did not start; what it said is above"
        yield Served(**json.loads(line))
    finally:
        process.stdin.close()
        process.wait(timeout=60)
        process.stdout.close()


async def _serve() -> None:
    from tests.e2e.mcp_world import READING, Tickets, grant, granted, ticket_server

    from regate_adapters.identity.jwt import mint_development_token
    from regate_gateway.auth.authentication import DEVELOPMENT_AUDIENCE, DEVELOPMENT_ISSUER, shared_secret
    from regate_gateway.composition.wiring import gateway_app
    from regate_gateway.config.settings import Settings
    from regate_gateway.http.server import Running
    from regate_gateway.workbench.directory import shipped_policies

    wait_patiently()
    with tempfile.TemporaryDirectory() as folder, ticket_server(Tickets()) as tickets:
        policies = Path(shutil.copytree(shipped_policies(), Path(folder) / "rego"))
        grant(policies, granted("tickets/search", "tickets/close", "tickets/fail"))
        async with running_model() as model:
            settings = Settings.model_validate(
                {
                    "data_dir": Path(folder) / "data",
                    "listen": {"port": 0},
                    "upstreams": [
                        json.loads(os.environ[_UPSTREAM]) or {"name": "model", "base_url": model.url}
                    ],
                    "opa": {"bundle": policies, "timeout_ms": 60_000},
                    "tools": {
                        "mcp": {"servers": {"tickets": {"url": tickets, "tools": {"search": READING}}}}
                    },
                    "egress": {"allow_private": ["127.0.0.0/8", "::1/128"]},
                    "telemetry": {"access_log": False},
                }
            )
            app, _ = gateway_app(settings)
            secret = shared_secret(settings).reveal().encode()
            tokens = {
                subject: mint_development_token(
                    secret,
                    issuer=DEVELOPMENT_ISSUER,
                    audience=DEVELOPMENT_AUDIENCE,
                    subject=subject,
                    tenant=tenant,
                    ttl_s=86_400,
                )
                for subject, tenant in PEOPLE.items()
            }
            async with Running(app, settings.listen) as server:
                print(json.dumps(asdict(Served(f"{server.url}/v1", model.url, tickets, tokens))), flush=True)
                await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve())
