"""A server of tools, of the official SDK, in a process of its own: `python -m bench.tool_server --port N`. Not a
benchmark of its own.
"""

from __future__ import annotations

import argparse

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings

ANSWER = "Ticket 7 is open. " * 50


def server() -> MCPServer:
    """Return a server that searches tickets."""
    made = MCPServer("tickets", log_level="WARNING")

    @made.tool()
    async def search(query: str) -> str:
        """Find tickets."""
        return f"{query}: {ANSWER}"

    return made


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    app = server().streamable_http_app(
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False)
    )
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


if __name__ == "__main__":
    main()
