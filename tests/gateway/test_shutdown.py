"""What runs when the server stops: it may finish, and what is cut at the end of the grace has its last
words before the application closes.
"""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Scope, Send
from tests.gateway.conftest import Connect, listen

from regate_gateway.http.server import Running


async def test_request_that_is_cut_at_shutdown_ends_before_the_application_closes(connect: Connect) -> None:
    begun, told = asyncio.Event(), list[str]()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            told.append("closed")
            await send({"type": "lifespan.shutdown.complete"})
            return
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(20):  # what an end takes to be stored
                await asyncio.sleep(0)
            told.append("stored")

    async with Running(application, listen(shutdown_grace_s=1)) as server, connect(server) as raw:
        await raw.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await begun.wait()
        await server._end()

    assert told == ["stored", "closed"]
