"""What tests run Regate's Milvus engine against: Milvus Lite as a server. It speaks Milvus's own gRPC with
Milvus's own client, and is another implementation behind it, in Python.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.programs import Server

from regate_adapters.testing.ports import free_port


class MilvusRun(Server):
    """It can be stopped and started again on the same port, with what it kept."""

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def command(self) -> Sequence[str]:
        program = Path(sys.executable).parent / "milvus-lite"
        places = ("--data-dir", str(self.folder / "data"), "--host", "127.0.0.1", "--port", str(self.port))
        return [str(program), "server", *places]

    def answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        except OSError:
            return False
        return True


@contextmanager
def running_milvus(folder: Path) -> Iterator[MilvusRun]:
    """Yield a new server with its files in this directory; it is gone at the end. Raises `ImportError` where
    Milvus Lite is not installed.
    """
    import milvus_lite  # noqa: F401 — the program is its own

    with MilvusRun(free_port(), folder).running() as server:
        yield server


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Yield the address of a new one, for `make prove`. Raises `ImportError` likewise."""
    with running_milvus(folder) as server:
        yield server.url
