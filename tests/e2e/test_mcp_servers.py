"""The servers of a gateway's configuration, as the gateway has them: by their names, with its own tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from mcp.server.mcpserver import MCPServer
from tests.adapters.mcp.conftest import OPEN, serving
from tests.deployments import only_on
from tests.e2e.conftest import ScriptedUpstream, World

from regate_gateway.auth.authentication import development_verifier
from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running
from regate_orchestrator.errors import EgressDenied
from regate_orchestrator.ports import McpServer, McpServers
from regate_orchestrator.principal import Context, Principal
from regate_orchestrator.responses.tools.kinds.mcp_runner import McpRunner
from regate_orchestrator.values import RequestId

pytestmark = only_on("embedded")

CONTEXT = Context(Principal("ann", "acme"), RequestId("req_1"))
Opened = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture
def opened(configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path) -> Opened:
    @asynccontextmanager
    async def running(url: str, identity: dict[str, Any], **egress: Any) -> AsyncIterator[World]:
        servers = {"s": {"url": url, "identity": identity}}
        said = {"allow_private": ["127.0.0.0/8", "::1/128"]} | egress
        settings = configure(tools={"mcp": {"servers": servers}}, egress=said)
        app, gateway = gateway_app(settings)
        async with Running(app, settings.listen) as server:
            yield World(server.url, settings, gateway, upstream, policies)

    return running


class Noting:
    """An application that notes what each request had in `authorization`."""

    def __init__(self) -> None:
        server = MCPServer("noting")
        server.add_tool(self.hello)
        self.app = server.streamable_http_app(transport_security=OPEN)
        self.given: list[str] = []

    async def hello(self) -> str:
        """Say hello."""
        return "hello"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.given.append(dict(scope["headers"]).get(b"authorization", b"").decode())
        await self.app(scope, receive, send)


def servers_of(world: World) -> McpServers:
    assert world.gateway.services is not None
    servers = cast("McpRunner", world.gateway.services.loop.tools.runners["mcp"]).servers
    assert servers is not None
    return servers


@pytest.mark.parametrize("place", ["env", "file"])
async def test_a_server_is_reached_by_its_name_with_the_operators_token(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    monkeypatch.setenv("CRM_TOKEN", "operators")
    (tmp_path / "token").write_text("operators\n")
    (tmp_path / "token").chmod(0o600)
    named = {"token_env": "CRM_TOKEN"} if place == "env" else {"token_file": str(tmp_path / "token")}
    noting = Noting()
    with serving(noting) as port:
        async with opened(f"http://localhost:{port}/mcp", {"kind": "static", **named}) as world:
            tools = await servers_of(world).tools(CONTEXT, McpServer("s"))
            outcome = await servers_of(world).call(
                CONTEXT, McpServer("s"), "hello", {}, deadline_s=20, max_bytes=1_000
            )
            decisions = world.audit(phase="egress.connect")
            async with world.http() as http:
                metrics = (await http.get(f"{world.url}/metrics")).text

    assert ([one.name for one in tools], outcome.text) == (["hello"], "hello")
    assert set(noting.given) == {"Bearer operators"}
    assert {one["about"] for record in decisions for one in record["decisions"]} == {"localhost"}
    assert 'regate_mcp_total{outcome="ok",what="call"} 1.0' in metrics
    assert "operators" not in str(decisions)


async def test_a_server_in_a_network_that_nobody_listed_is_not_reached(opened: Opened) -> None:
    noting = Noting()
    with serving(noting) as port:
        async with opened(f"http://localhost:{port}/mcp", {}, allow_private=[]) as world:
            with pytest.raises(EgressDenied):
                await servers_of(world).call(
                    CONTEXT, McpServer("s"), "hello", {}, deadline_s=20, max_bytes=1_000
                )

    assert noting.given == []


async def test_the_callers_token_goes_with_the_context_and_into_no_record(world: World) -> None:
    assert world.gateway.services is not None
    services = world.gateway.services
    token = world.token("ann", "acme")
    scope = {
        "type": "http",
        "headers": [(b"authorization", f"Bearer {token}".encode())],
        "state": {"request_id": "req_1"},
    }

    context = await services.authenticator.context(scope)

    assert context.credential is not None
    claims = await development_verifier(world.settings).verify(token)
    assert (context.credential.token, context.credential.audiences) == (token, {claims["aud"]})
    assert context.credential.expires == claims["exp"]
    assert token not in repr(context)
    assert token not in str(world.audit())
