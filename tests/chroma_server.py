"""A real Chroma server for tests: the one that the dependency `chromadb` carries, on a loopback port."""

from __future__ import annotations

import http.client
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.postgres import _end_with_parent

_READY_SECONDS: Final = 60.0


@dataclass
class ChromaRun:
    """A server that can be stopped and started again on the same port, with what it kept."""

    port: int
    folder: Path
    arguments: Sequence[str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it; it answers then."""
        command = [str(Path(sys.executable).parent / "chroma"), "run", *self.arguments]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log, preexec_fn=_end_with_parent
            )
        give_up = time.monotonic() + _READY_SECONDS
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < give_up, (self.folder / "log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """Kill it."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(_READY_SECONDS)
        self.process = None

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/api/v2/heartbeat")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


@contextmanager
def running_chroma(folder: Path, port: int, *arguments: str) -> Iterator[ChromaRun]:
    """Yield a new server with its files in this directory, or one that these arguments describe; it is gone
    at the end.
    """
    usual = ("--path", str(folder / "data"), "--host", "127.0.0.1", "--port", str(port))
    server = ChromaRun(port, folder, arguments or usual)
    try:
        server.start()
        yield server
    finally:
        if server.process is not None:
            server.stop()
