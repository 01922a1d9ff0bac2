"""`regate policy check --watch`, as a process of its own: what it says after each change, and how soon."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

import pytest
from tests.gateway.workbench.conftest import Write

_DEADLINE_SECONDS = 60


class Watching:
    """The running command, read line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: Queue[str | None] = Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def until(self, beginning: str) -> list[str]:
        """The lines up to the first that begins so."""
        found: list[str] = []
        while not found or not found[-1].startswith(beginning):
            line = self._lines.get(timeout=_DEADLINE_SECONDS)
            assert line is not None, found
            found.append(line)
        return found


@contextmanager
def watching(policies: Path, *options: str) -> Iterator[Watching]:
    command = [
        sys.executable,
        "-m",
        "regate_gateway",
        "policy",
        "check",
        "--policy",
        str(policies),
        "--watch",
        *options,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield Watching(process)
        finally:
            process.kill()


WRONG = {
    "syntax": ("deny if {", "syntax"),
    "authoring": ('deny if lower(input.chunk.owner) == "x"', "computed-from-row"),
    "controls": ("deny if input.chunk.tennant", "undeclared-key"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_a_change_breaks_and_mends_is_told_and_nothing_else(
    name: str, policies: Path, write: Write
) -> None:
    body, code = WRONG[name]
    with watching(policies, "--only", "authoring") as watched:
        watched.until("policy authoring")

        write("custom/chunk/chunk.rego", f"package regate.custom.chunk\n\n{body}\n")
        broken = watched.until("1 in all")
        write("custom/chunk/chunk.rego", "package regate.custom.chunk\n\ndeny if input.chunk.level > 3\n")
        mended = watched.until("nothing found")

    (new,) = [line for line in broken if line.startswith(("new", "gone"))]
    (gone,) = [line for line in mended if line.startswith(("new", "gone"))]
    assert new.startswith(f"new: custom/chunk/chunk.rego:3: {code}: ")
    assert gone == new.replace("new", "gone", 1)
    assert any(line.endswith("custom/chunk/chunk.rego changed") for line in broken)


def test_a_syntax_error_is_told_soon_though_every_check_is_asked_for(policies: Path, write: Write) -> None:
    with watching(policies, "--tests", "policy-tests") as watched:
        watched.until("policy agreement")

        write("chunk/chunk.rego", "package regate.chunk\n\nallow if {\n")
        began = time.monotonic()
        watched.until("new: chunk/chunk.rego:3: syntax")

        assert time.monotonic() - began < 10  # about one second; the machine may be busy


def test_an_interrupt_ends_it_without_an_error(policies: Path) -> None:
    with watching(policies, "--only", "format") as watched:
        watched.until("policy format")
        watched.process.send_signal(signal.SIGINT)

        assert watched.process.wait(_DEADLINE_SECONDS) == 0
