"""A gateway with a server of tools: real, of the official SDK, over loopback, granted to two tenants."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mcp.server.mcpserver import MCPServer
from tests.adapters.mcp.conftest import OPEN, serving
from tests.e2e.conftest import ScriptedUpstream, World, tool_call

from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running

GRANTED = {"acme": ["everyone"], "globex": ["everyone"]}
READING = {"read_only": True, "destructive": False, "idempotent": True, "open_world": False}


@dataclass
class Tickets:
    """What the server was asked, and the text that it answers with."""

    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    text: str = "Ticket 7 is open."
    more: list[str] = field(default_factory=list)
    """Names of tools that the server has come to offer."""

    def server(self) -> MCPServer:
        made = MCPServer("tickets")

        @made.tool()
        async def search(query: str, tenant: str = "", top: int = 10) -> str:
            """Find tickets."""
            self.calls.append(("search", {"query": query, "tenant": tenant, "top": top}))
            return self.text

        @made.tool()
        async def close(id: int) -> str:  # noqa: A002 — the argument of the tool
            """Close a ticket."""
            self.calls.append(("close", {"id": id}))
            return f"Ticket {id} is closed."

        @made.tool()
        async def fail() -> str:
            """Fail."""
            raise ValueError("out of order")

        return made


@contextmanager
def ticket_server(tickets: Tickets) -> Iterator[str]:
    app = tickets.server().streamable_http_app(transport_security=OPEN)
    with serving(app) as port:
        yield f"http://localhost:{port}/mcp"


def granted(*names: str, needs_approval: bool = False, **more: Any) -> dict[str, Any]:
    entry = {"type": "mcp", "tenants": GRANTED, "needs_approval": needs_approval, **more}
    return dict.fromkeys(names, entry)


def grant(policies: Path, tools: dict[str, Any]) -> None:
    """Have the operators' catalogue be this."""
    data = policies / "data.json"
    document = json.loads(data.read_text())
    document["regate"]["tools"] = tools
    data.write_text(json.dumps(document))


async def regrant(world: World, tools: dict[str, Any]) -> None:
    """Have the operators' catalogue be this, and wait until it is in force."""
    before = await world.gateway.revision()
    grant(world.policies, tools)
    async with world.http() as http:
        while await world.gateway.revision() == before:
            await http.get("/models")


OpenTickets = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture
def tickets() -> Tickets:
    return Tickets()


@pytest.fixture
def opened(
    configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path, tickets: Tickets
) -> OpenTickets:
    """Opens a gateway whose server `tickets` is real, with this catalogue."""

    @asynccontextmanager
    async def running(
        tools: dict[str, Any] | None = None, *, overlay: str = "", **settings: Any
    ) -> AsyncIterator[World]:
        every = granted("tickets/search", "tickets/close", "tickets/fail")
        grant(policies, every if tools is None else tools)
        if overlay:
            (policies / "custom" / "tool").mkdir(parents=True)
            (policies / "custom" / "tool" / "tool.rego").write_text(overlay)
        with ticket_server(tickets) as url:
            server = {"url": url, "tools": {"search": READING}, **settings.pop("server", {})}
            made = configure(
                tools={"mcp": {"servers": {"tickets": server}, **settings.pop("mcp", {})}},
                egress={"allow_private": ["127.0.0.0/8", "::1/128"]},
                **settings,
            )
            app, gateway = gateway_app(made)
            async with Running(app, made.listen) as running:
                world = World(running.url, made, gateway, upstream, policies)
                try:
                    yield world
                finally:
                    for client in world.clients:
                        await client.close()

    return running


def offering(**more: Any) -> dict[str, Any]:
    """The tool as a request has it."""
    return {"type": "mcp", "server_label": "tickets", "require_approval": "never", **more}


def calling(name: str, arguments: dict[str, Any] | str, **more: Any) -> list[dict[str, Any]]:
    """Chat chunks in which the model calls a tool of the server."""
    return tool_call(f"mcp__tickets__{name}", arguments, **more)


def told(world: World) -> list[str]:
    """What the model was told of its calls, in its last request."""
    return [one["content"] for one in world.upstream.requests[-1]["messages"] if one["role"] == "tool"]
