"""A stretch of network before a server, on a port of its own, which a test can break and mend.

It knows bytes alone, no protocol. What it does to a connection stays done where the network would not make up
for it: bytes that were swallowed are not delivered later, so that connection carries nothing any more, and
one that was half closed stays so.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal, Self

State = Literal["pass", "swallow", "cut", "reset", "half_close", "slow", "drip"]

_RESET: Final = struct.pack("ii", 1, 0)


@dataclass(eq=False)
class _Connection:
    """Both ends of one connection, by their writers."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    is_lost: bool = False


class Link:
    """A link that does one thing to every byte and every new connection.

    pass        hands everything on
    slow        hands everything on, each piece `delay_s` later
    drip        hands everything on byte by byte, each `delay_s` after the last
    swallow     takes everything and hands nothing on, as a network does that drops packets
    cut         ends all connections, and new ones at once
    reset       the same, with a reset instead of an end
    half_close  ends what the server says and goes on taking what the client says, which reaches nobody
    """

    def __init__(self, port: int, *, delay_s: float = 0.0) -> None:
        self.target = port
        self.delay_s = delay_s
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._state: State = "pass"
        self.port = 0
        self.messages = 0
        """How many the clients sent: each waits for an answer, so these are round trips."""
        self.swallow_after: int | None = None
        """After so many messages of clients in all the link swallows by itself."""

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.refuse()

    async def listen(self) -> None:
        """Take connections, on the port that was had before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """End all connections, and have new ones refused, as where no server runs, until `listen`."""
        if self._server is not None:
            self._server.close()
            self._hang_up()
            await self._server.wait_closed()
            self._server = None

    def become(self, state: State) -> None:
        """Change what happens from now on."""
        self._state = state
        if state in ("cut", "reset"):
            self._hang_up()
        if state == "half_close":
            for connection in self._connections:
                _half_close(connection)

    def _hang_up(self) -> None:
        for connection in self._connections:
            for writer in (connection.client, connection.server):
                self._abort(writer)

    def _abort(self, writer: asyncio.StreamWriter) -> None:
        if self._state == "reset" and not writer.is_closing():
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._state in ("cut", "reset"):
            self._abort(writer)
            return
        try:
            further, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:  # the server is not there: neither is the link's end
            writer.transport.abort()
            return
        connection = _Connection(writer, back)
        self._connections.add(connection)
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._carry(connection, reader, back, is_clients=True))
                ways.create_task(self._carry(connection, further, writer))
        finally:
            self._connections.discard(connection)
            for one in (writer, back):
                one.transport.abort()

    async def _carry(
        self,
        connection: _Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        is_clients: bool = False,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                self.messages += is_clients
                if self.swallow_after is not None and self.messages > self.swallow_after:
                    connection.is_lost = True
                await self._hand_on(connection, data, writer)
        if not connection.is_lost:
            writer.close()
        elif is_clients:
            connection.client.close()
            connection.server.close()

    async def _hand_on(self, connection: _Connection, data: bytes, writer: asyncio.StreamWriter) -> None:
        if self._state == "swallow":
            connection.is_lost = True
        if self._state == "half_close":
            _half_close(connection)
        if connection.is_lost:
            return
        pieces = [data[at : at + 1] for at in range(len(data))] if self._state == "drip" else [data]
        for piece in pieces:
            if self._state in ("slow", "drip"):
                await asyncio.sleep(self.delay_s)
            writer.write(piece)
            await writer.drain()


def _half_close(connection: _Connection) -> None:
    if not connection.is_lost:
        connection.is_lost = True
        if not connection.client.is_closing():
            connection.client.write_eof()
