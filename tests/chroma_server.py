"""A real Chroma server for tests: the one that the dependency `chromadb` carries, on a loopback port."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.programs import HttpServer


@dataclass
class ChromaRun(HttpServer):
    """A server that can be stopped and started again on the same port, with what it kept."""

    ready = "/api/v2/heartbeat"

    arguments: Sequence[str] = ()

    @property
    def command(self) -> list[str]:
        return [str(Path(sys.executable).parent / "chroma"), "run", *self.arguments]


@contextmanager
def running_chroma(folder: Path, port: int, *arguments: str) -> Iterator[ChromaRun]:
    """Yield a new server with its files in this directory, or one that these arguments describe; it is gone
    at the end.
    """
    usual = ("--path", str(folder / "data"), "--host", "127.0.0.1", "--port", str(port))
    with ChromaRun(port, folder, arguments=arguments or usual).running() as server:
        yield server
