"""The client as a gateway has it: behind the guard, with real OPA, against servers of the official SDK on
loopback, and a scripted one for what no SDK does.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest_asyncio
import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from tests.adapters.backend.conftest import Exchange, ScriptedUpstream
from tests.adapters.egress.conftest import World as Egress
from tests.adapters.egress.conftest import engine as engine  # a fixture
from tests.orchestrator.scripted import CONTEXT, counted

from regate_adapters.mcp.client import McpClient
from regate_adapters.mcp.settings import Mcp
from regate_adapters.opa.engine import OpaEngine
from regate_gateway.composition.outside.egress import McpWayOut
from regate_orchestrator.ports import McpOutcome, McpServer, McpTool
from regate_orchestrator.principal import Context, Credential

OPEN = TransportSecuritySettings(enable_dns_rebinding_protection=False)


class World:
    """One client. `mcp.test` and `token.test` lead to this machine."""

    def __init__(self, opa: OpaEngine, servers: dict[str, Any], *, clock: Any = None, **more: Any) -> None:
        ports = more.pop("ports", ())
        names = {"mcp.test": [["127.0.0.1"]], "token.test": [["127.0.0.1"]], "docs.test": [["127.0.0.1"]]}
        self.egress = Egress(opa, names=names, ports=ports)
        settings = Mcp.model_validate({"servers": servers, "server_urls": more.pop("server_urls", False)})
        clocked = {} if clock is None else {"clock": clock}
        self.client = McpClient(
            settings, McpWayOut(self.egress.guard), self.egress.metrics, **more, **clocked
        )

    async def tools(self, server: str | McpServer = "s", context: Context = CONTEXT) -> Sequence[McpTool]:
        named = McpServer(server) if isinstance(server, str) else server
        return await self.client.tools(context, named)

    async def call(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        *,
        server: McpServer | None = None,
        context: Context = CONTEXT,
        deadline_s: float | None = None,
        max_bytes: int = 1_000_000,
    ) -> McpOutcome:
        return await self.client.call(
            context,
            server or McpServer("s"),
            name,
            arguments or {},
            deadline_s=deadline_s,
            max_bytes=max_bytes,
        )

    @property
    def exchanges(self) -> dict[tuple[str, ...], float]:
        return counted(self.egress.metrics, "regate_mcp")


def calling_as(token: str, *audiences: str, expires: float = 4e9) -> Context:
    return replace(CONTEXT, credential=Credential(token, frozenset(audiences), expires))


@contextmanager
def serving(app: Any) -> Iterator[int]:
    """The port on which the application is served, in a thread of its own."""
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    ends = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < ends
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)


@contextmanager
def sdk_server(server: MCPServer, transport: str = "http", **options: Any) -> Iterator[str]:
    """The address of a server made with the official SDK."""
    made = server.sse_app if transport == "sse" else server.streamable_http_app
    with serving(made(transport_security=OPEN, **options)) as port:
        yield f"http://mcp.test:{port}/{'sse' if transport == 'sse' else 'mcp'}"


@pytest_asyncio.fixture(loop_scope="session")
async def scripted() -> AsyncIterator[ScriptedUpstream]:
    server = ScriptedUpstream()
    async with server.serving():
        yield server


def speaking(answers: dict[str, Any], sent: list[Any] | None = None) -> Any:
    """A script for a server that speaks the protocol by hand: for each method a result, or what answers."""

    async def script(exchange: Exchange) -> None:
        if exchange.method != "POST":
            await exchange.answer(405, b"")
            return
        message = json.loads(exchange.body)
        if sent is not None:
            sent.append(message)
        if "id" not in message:
            await exchange.answer(202, b"")
            return
        answer = answers.get(message["method"], INITIALIZED if message["method"] == "initialize" else {})
        if callable(answer):
            await answer(exchange, message)
        else:
            await exchange.answer_json({"jsonrpc": "2.0", "id": message["id"], "result": answer})

    return script


INITIALIZED = {
    "protocolVersion": "2025-06-18",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "by hand", "version": "1"},
}


def tool(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "description": "", "inputSchema": {"type": "object"}, **more}
