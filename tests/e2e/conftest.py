"""The whole gateway over sockets: real OPA with the shipped policies, real stores, real uvicorn, and
an upstream that obeys a script.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import openai
import pytest
from aiohttp import web
from tests.deployments import EMBEDDED, NAMES, VARIABLE, Deployment, on_postgres
from tests.fleet import Fleet, alternating, listing_models, running_fleet
from tests.patience import PATIENT_SECONDS, wait_patiently
from tests.programs import children
from tests.readers import shared_readers

from regate_adapters.audit.reading import read
from regate_adapters.identity.jwt import mint_development_token
from regate_adapters.opa.client import OpaClient
from regate_adapters.opa.engine import OpaEngine
from regate_adapters.state.database import Database
from regate_adapters.state.store import SqlStateStore
from regate_adapters.testing.ports import free_port
from regate_gateway.auth.authentication import DEVELOPMENT_AUDIENCE, DEVELOPMENT_ISSUER, shared_secret
from regate_gateway.composition.wiring import Gateway, gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running
from regate_gateway.workbench.directory import shipped_policies

wait_patiently()

UPSTREAM_PORT: Final = free_port()
"""Where the upstream of a fleet is."""


def text(*pieces: str) -> list[dict[str, Any]]:
    """Chat chunks of an answer in pieces."""
    return [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces] + [ended("stop")]


def tool_call(name: str, arguments: dict[str, Any] | str, *, call_id: str = "call_1") -> list[dict[str, Any]]:
    """Chat chunks of one tool call."""
    written = arguments if isinstance(arguments, str) else json.dumps(arguments)
    call = {"index": 0, "id": call_id, "type": "function", "function": {"name": name, "arguments": written}}
    return [{"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}, ended("tool_calls")]


def ended(reason: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}


NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Knows no authority: to load them all takes a client longer than most tests take."""
OPA_MS = 60_000
"""How long a decision may take on the slowest machine; who waits for one that never comes says
`impatient`.
"""
USAGE = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}}


@dataclass
class ScriptedUpstream:
    """Answers each chat completion with the next turn of its script, and remembers what it was sent.
    Stands for what is outside of us.
    """

    turns: list[Any] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    images: list[Any] = field(default_factory=list)
    """What requests for images are answered with, one after the other: a status of error, or an answer."""
    relevance: dict[str, float] = field(default_factory=dict)
    """What a reranker says of passages, by a word that is in them."""
    closed_early: int = 0
    url: str = ""

    @property
    def prompt(self) -> str:
        """The messages of the last request, as text."""
        return json.dumps(self.requests[-1]["messages"], ensure_ascii=False)

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response(
            {"object": "list", "data": [{"id": name, "object": "model"} for name in ("small", "large")]}
        )

    async def embeddings(self, request: web.Request) -> web.Response:
        self.requests.append(await request.json())
        return web.json_response(
            {
                "object": "list",
                "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 0.5]}],
                "model": "small",
            }
        )

    async def rerank(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append(body)
        results = [
            {
                "index": place,
                "relevance_score": max(self.relevance[one] for one in self.relevance if one in passage),
            }
            for place, passage in enumerate(body["documents"])
        ]
        return web.json_response({"results": sorted(results, key=lambda one: -one["relevance_score"])})

    async def generate(self, request: web.Request) -> web.Response:
        self.requests.append(await request.json())
        answer = self.images.pop(0)
        if isinstance(answer, int):
            return web.json_response({"error": {"message": "no, says the upstream"}}, status=answer)
        return web.json_response(answer)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        turn = self.turns.pop(0) if self.turns else text("Nothing more to say.")
        if callable(turn):
            return await turn(self, request)
        if not body.get("stream"):
            content = "".join(
                chunk["choices"][0]["delta"].get("content", "") for chunk in turn if chunk["choices"]
            )
            message = {"role": "assistant", "content": content}
            return web.json_response(
                {
                    "id": "c",
                    "object": "chat.completion",
                    "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                }
            )
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for chunk in [*turn, USAGE]:
            await response.write(
                b"data: "
                + json.dumps({"id": "c", "object": "chat.completion.chunk", **chunk}).encode()
                + b"\n\n"
            )
        await response.write(b"data: [DONE]\n\n")
        return response


def opa_client(gateway: Gateway) -> OpaClient:
    """The gateway's connection to OPA, beneath what remembers and splits questions."""
    assert gateway.services is not None
    engine: Any = gateway.services.enforcer._engine
    while not isinstance(engine, OpaEngine):
        engine = engine._inner
    return engine._client


@dataclass
class World:
    """A running gateway with everything around it."""

    url: str
    settings: Settings
    gateway: Gateway
    upstream: ScriptedUpstream
    policies: Path
    clients: list[openai.AsyncOpenAI] = field(default_factory=list)

    def token(self, subject: str, tenant: str, **claims: Any) -> str:
        secret = shared_secret(self.settings).reveal().encode()
        return mint_development_token(
            secret,
            issuer=DEVELOPMENT_ISSUER,
            audience=DEVELOPMENT_AUDIENCE,
            subject=subject,
            tenant=tenant,
            ttl_s=3600,
            **claims,
        )

    def client(self, subject: str = "alice", tenant: str = "acme", **claims: Any) -> openai.AsyncOpenAI:
        http = openai.DefaultAsyncHttpxClient(verify=NO_TLS, event_hooks=self._hooks())
        client = openai.AsyncOpenAI(
            base_url=f"{self.url}/v1",
            api_key=self.token(subject, tenant, **claims),
            max_retries=0,
            http_client=http,
        )
        self.clients.append(client)
        return client

    def http(self, subject: str = "alice", tenant: str = "acme", **claims: Any) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self.token(subject, tenant, **claims)}"}
        return httpx.AsyncClient(
            base_url=f"{self.url}/v1",
            headers=headers,
            timeout=PATIENT_SECONDS,
            verify=NO_TLS,
            event_hooks=self._hooks(),
        )

    def _hooks(self) -> dict[str, list[Any]]:
        return {}

    @contextmanager
    def impatient(self, seconds: float) -> Iterator[None]:
        """Have the gateway wait no longer than this for OPA, for as long as this is entered."""
        client = opa_client(self.gateway)
        usual, client._deadline_s = client._deadline_s, seconds
        try:
            yield
        finally:
            client._deadline_s = usual

    @property
    def database(self) -> Database:
        """The database behind the gateway's state, for what no client can bring about."""
        assert self.gateway.services is not None
        state = self.gateway.services.state
        assert isinstance(state, SqlStateStore)
        return state._database

    @property
    def opa_pid(self) -> int:
        """The process id of the gateway's OPA: our child that listens where the gateway asks."""
        (found,) = children(os.getpid(), str(opa_client(self.gateway)._address.socket))
        return found

    def audit(self, **wanted: Any) -> list[dict[str, Any]]:
        return [
            record
            for record in read(self.settings.audit.path)
            if all(record.get(key) == value for key, value in wanted.items())
        ]


class FleetWorld(World):
    """The fleet in place of a gateway of the test's own. What is inside a gateway is out of reach: a test
    that needs it is skipped.
    """

    def __init__(self, fleet: Fleet, upstream: ScriptedUpstream) -> None:
        self._fleet = fleet
        self._began = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self.url = fleet.urls[0]
        self.settings = fleet.settings[0]
        self.upstream = upstream
        self.clients = []

    def __getattribute__(self, name: str) -> Any:
        if name in ("gateway", "policies", "database", "opa_pid", "impatient"):
            pytest.skip("it reaches into the gateway")
        return super().__getattribute__(name)

    def __repr__(self) -> str:
        return "FleetWorld()"

    def _hooks(self) -> dict[str, list[Any]]:
        return {"request": [alternating(self._fleet.urls)]}

    def audit(self, **wanted: Any) -> list[dict[str, Any]]:
        records = [
            record
            for settings in self._fleet.settings
            for record in read(settings.audit.path)
            if record["at"] >= self._began and all(record.get(key) == value for key, value in wanted.items())
        ]
        return sorted(records, key=lambda record: str(record["at"]))


@pytest.fixture(scope="session", autouse=True)
def readers() -> Iterator[None]:
    with shared_readers():
        yield


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, with `--fleet`, what would be run twice: it stands on PostgreSQL."""
    if not config.getoption("--fleet"):
        return
    twice = [item for item in items if _runs_on(item, EMBEDDED.name)]
    config.hook.pytest_deselected(items=twice)
    items[:] = [item for item in items if item not in twice]


def _runs_on(item: pytest.Item, name: str) -> bool:
    """Return whether this is the run of a test on this deployment that has runs on others as well."""
    params = getattr(item, "callspec", None)
    if params is None or params.params.get("deployment") != name:
        return False
    return all(mark.args[0] != "deployment" for mark in item.iter_markers("parametrize"))


@pytest.fixture(scope="session")
def fleet(request: pytest.FixtureRequest) -> Iterator[Fleet | None]:
    """With `--fleet`: the gateways that all tests ask, before an upstream at this port that each has anew."""
    if not request.config.getoption("--fleet"):
        yield None
        return
    with ExitStack() as stack:
        with listing_models(UPSTREAM_PORT):  # which the gateways ask for when they start
            fleet = stack.enter_context(running_fleet(f"http://127.0.0.1:{UPSTREAM_PORT}/v1"))
        yield fleet


@pytest.fixture
async def upstream(fleet: Fleet | None) -> AsyncIterator[ScriptedUpstream]:
    scripted = ScriptedUpstream()
    app = web.Application()
    app.router.add_get("/v1/models", scripted.models)
    app.router.add_post("/v1/chat/completions", scripted.chat)
    app.router.add_post("/v1/embeddings", scripted.embeddings)
    app.router.add_post("/v1/images/generations", scripted.generate)
    app.router.add_post("/v1/rerank", scripted.rerank)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0 if fleet is None else UPSTREAM_PORT)
    await site.start()
    scripted.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield scripted
    await runner.cleanup()


@pytest.fixture
def policies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fleet: Fleet | None) -> Path:
    """A copy of the shipped policies that a test may change, one file at a time: nobody is waited for
    who may still be writing.
    """
    if fleet is not None:
        pytest.skip("it changes the policies")
    monkeypatch.setattr("regate_adapters.opa.policies.watching._STILL_SECONDS", 0)
    return Path(shutil.copytree(shipped_policies(), tmp_path / "rego"))


@pytest.fixture(params=NAMES)
def deployment(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, fleet: Fleet | None
) -> Iterator[Deployment]:
    """What the test's gateways stand on: each test runs on all of them, unless it says on which
    (`only_on`).
    """
    if fleet is not None:
        if "world" not in request.fixturenames:
            pytest.skip("it starts what it asks")
        yield fleet.deployment
        return
    if request.param == EMBEDDED.name:
        yield EMBEDDED
        return
    with on_postgres(request.getfixturevalue("postgres")) as found:
        monkeypatch.setenv(VARIABLE, found.url)
        yield found


@pytest.fixture
def configure(
    tmp_path: Path, upstream: ScriptedUpstream, policies: Path, deployment: Deployment
) -> Callable[..., Settings]:
    """Settings for a gateway of this test's own."""

    def settings(**changes: Any) -> Settings:
        values: dict[str, Any] = {
            "data_dir": tmp_path / "data",
            "listen": {"port": 0},
            "upstreams": [{"name": "scripted", "base_url": upstream.url}],
            "opa": {"bundle": policies, "timeout_ms": OPA_MS},
            "telemetry": {"access_log": False},
        }
        return Settings.model_validate(values | deployment.settings | changes)

    return settings


@pytest.fixture
async def world(
    request: pytest.FixtureRequest,
    upstream: ScriptedUpstream,
    deployment: Deployment,
    fleet: Fleet | None,
) -> AsyncIterator[World]:
    if fleet is None:
        configure, policies = request.getfixturevalue("configure"), request.getfixturevalue("policies")
        async with started(configure(), upstream, policies) as running:
            yield running
        return
    if "caplog" in request.fixturenames or request.node.get_closest_marker("one_process"):
        pytest.skip("it looks at one process")
    if any(hasattr(request.module, own) for own in ("configure", "policies")):
        pytest.skip("it configures a gateway of its own")
    fleet.clear()
    among = FleetWorld(fleet, upstream)
    yield among
    for client in among.clients:
        await client.close()


@asynccontextmanager
async def started(settings: Settings, upstream: ScriptedUpstream, policies: Path) -> AsyncIterator[World]:
    """Enter with a gateway of these settings."""
    app, gateway = gateway_app(settings)
    async with Running(app, settings.listen) as server:
        running = World(server.url, settings, gateway, upstream, policies)
        yield running
        for client in running.clients:
            await client.close()
