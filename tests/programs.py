"""Programs that tests start: servers that can be killed and started again, and what a process has started."""

from __future__ import annotations

import http.client
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Self

from tests.postgres import _end_with_parent

_READY_SECONDS: Final = 120.0
_LOOK_SECONDS: Final = 0.02


@dataclass
class Server(ABC):
    """A server on a loopback port, with its files and its log in a directory."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def command(self) -> Sequence[str]:
        """How it is started, in its directory."""

    @abstractmethod
    def answers(self) -> bool:
        """Return whether it serves now."""

    def start(self) -> None:
        """Start it; it answers then."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, stdout=log, stderr=log, preexec_fn=_end_with_parent
            )
        give_up = time.monotonic() + _READY_SECONDS
        while not self.answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < give_up, (self.folder / "log").read_text()
            time.sleep(_LOOK_SECONDS)

    def stop(self) -> None:
        """Kill it."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(_READY_SECONDS)
        self.process = None

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Enter with it started; it is gone at the end, if it is still there."""
        try:
            self.start()
            yield self
        finally:
            if self.process is not None:
                self.stop()


class HttpServer(Server):
    """One that is ready when this path answers with 200."""

    ready: ClassVar[str]

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self.port}"

    def answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", self.ready)
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


def children(pid: int, called: str = "") -> list[int]:
    """Return the processes that a process has started and that live, those whose command holds this text."""
    found = [
        int(child)
        for tasks in Path(f"/proc/{pid}/task").glob("*/children")
        for child in tasks.read_text().split()
    ]
    return [child for child in found if called.encode() in Path(f"/proc/{child}/cmdline").read_bytes()]
