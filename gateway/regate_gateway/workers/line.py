"""The line between the supervisor and one worker: JSON messages, a line each, over a pair of sockets that
nobody else has.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any, Final, Self, TypeAlias

Message: TypeAlias = dict[str, Any]
"""What was said: its `kind`, and more."""

_LONGEST: Final = 64 * 1024 * 1024


class Line:
    """One end. Whoever sends waits for nothing; what the other end can no longer hear is lost."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, end: socket.socket) -> Self:
        """Return the line over this socket, which it closes at its end."""
        return cls(*await asyncio.open_connection(sock=end, limit=_LONGEST))

    def send(self, kind: str, **said: Any) -> None:
        """Say this to the other end."""
        if not self._writer.is_closing():
            self._writer.write(json.dumps({"kind": kind, **said}).encode() + b"\n")

    async def messages(self) -> AsyncIterator[Message]:
        """Yield what the other end says, until it is gone."""
        while True:
            try:
                said = await self._reader.readline()
            except ConnectionError:
                return
            if not said.endswith(b"\n"):
                return
            yield json.loads(said)

    def close(self) -> None:
        """Be gone for the other end."""
        self._writer.close()
