"""WebSockets to services that the configuration names, over the addresses that were checked."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from regate_adapters.egress.guard import EgressGuard
from regate_adapters.egress.place import LetOut
from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.errors import FetchFailed
from regate_orchestrator.ports import Channel, Outgoing, Purpose

_CLOSE_SECONDS: Final = 1.0


@asynccontextmanager
async def open_channel(
    guard: EgressGuard, context: Context, request: Outgoing, purpose: Purpose, limit_bytes: int, wait_s: float
) -> AsyncIterator[Channel]:
    """Yield a WebSocket; see the port (`ports/egress.py`)."""
    connection = None
    try:
        async with asyncio.timeout(wait_s):
            place = await guard.let_out(context, request.url, purpose, operator_named=True)
            connection = await _connected(place, request, limit_bytes)
    except (OSError, WebSocketException) as error:  # a timeout is an OSError
        raise FetchFailed("The service could not be connected to.") from error
    try:
        yield _Channel(connection)
    finally:
        await connection.close()


async def _connected(place: LetOut, request: Outgoing, limit_bytes: int) -> ClientConnection:
    url = place.url
    secure = url.scheme == "https"
    found = await _first_of(place)
    try:
        return await connect(
            str(url).replace("http", "ws", 1),
            sock=found,
            ssl=place.tls if secure else None,
            server_hostname=url.host if secure else None,
            additional_headers=dict(request.headers),
            user_agent_header="Regate",
            compression=None,
            proxy=None,
            max_size=limit_bytes,
            close_timeout=_CLOSE_SECONDS,
        )
    except BaseException:
        found.close()
        raise


async def _first_of(place: LetOut) -> socket.socket:
    failed: OSError = OSError("no address")
    for address in place.addresses:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(found, (str(address), place.url.port))
        except OSError as error:
            failed = error
            found.close()
        except BaseException:
            found.close()
            raise
        else:
            return found
    raise failed


class _Channel:
    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def send(self, text: str) -> None:
        try:
            await self._connection.send(text)
        except (OSError, WebSocketException) as error:
            raise FetchFailed("The connection to the service broke off.") from error

    async def receive(self) -> str:
        try:
            message = await self._connection.recv()
        except (OSError, WebSocketException) as error:
            raise FetchFailed("The connection to the service broke off.") from error
        return message if isinstance(message, str) else message.decode(errors="replace")
