"""The line between the supervisor and one worker: JSON messages, a line each, over a pair of sockets that
nobody else has.
"""

from __future__ import annotations

import asyncio
import itertools
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
        self._questions = itertools.count()
        self._asked: dict[int, asyncio.Future[Any]] = {}

    @classmethod
    async def over(cls, end: socket.socket) -> Self:
        """Return the line over this socket, which it closes at its end."""
        return cls(*await asyncio.open_connection(sock=end, limit=_LONGEST))

    def send(self, kind: str, **said: Any) -> None:
        """Say this to the other end."""
        if not self._writer.is_closing():
            self._writer.write(json.dumps({"kind": kind, **said}).encode() + b"\n")

    def ask(self, kind: str) -> asyncio.Future[Any]:
        """Ask the other end this; return what will be its answer. Somebody must read `messages` meanwhile."""
        question = next(self._questions)
        self._asked[question] = answer = asyncio.get_running_loop().create_future()
        self.send(kind, question=question)
        return answer

    def answer(self, message: Message, said: Any) -> None:
        """Answer what was asked with this message."""
        self.send("answer", question=message["question"], said=said)

    async def messages(self) -> AsyncIterator[Message]:
        """Yield what the other end says, until it is gone, but its answers: whoever asked has those."""
        while True:
            try:
                said = await self._reader.readline()
            except ConnectionError:
                return
            if not said.endswith(b"\n"):
                return
            message = json.loads(said)
            if message["kind"] != "answer":
                yield message
            elif not (answer := self._asked.pop(message["question"])).done():
                answer.set_result(message["said"])

    def close(self) -> None:
        """Be gone for the other end."""
        self._writer.close()
