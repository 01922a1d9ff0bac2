"""A real OPA beside a gateway, as somebody else runs it: with a bundle of the shipped policies."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.adapters.opa.policies import bundle_with

from regate_adapters.opa.install import require_opa
from regate_adapters.opa.server import parent_death as leash
from regate_adapters.testing.ports import free_port
from regate_gateway.workbench.directory import shipped_policies

_END_SECONDS: Final = 60.0


@dataclass
class Sidecar:
    """An OPA that somebody else runs: it takes whatever bundle is put at `bundle`, at once. It can be stopped
    and started again on the same port.
    """

    port: int
    bundle: Path
    opa: Path
    token: str | None
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def put(self, changes: dict[str, str], revision: str, **data: Any) -> None:
        """Have it decide by the shipped policies with these changes and data from now on."""
        bundle_with(
            shipped_policies(),
            changes,
            self.bundle,
            opa=self.opa,
            revision=revision,
            token=self.token,
            data=data,
        )

    def start(self) -> None:
        """Start it. It answers a little later."""
        options = ["--skip-version-check", "--log-level", "error", "--watch"]
        closed = ["--authentication=token", "--authorization=basic"] if self.token else []
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", leash.__file__, str(os.getpid())),
                *(str(self.opa), "run", "--server", "--addr", f"127.0.0.1:{self.port}"),
                *(*options, *closed, "--bundle", str(self.bundle)),
            ]
        )

    def stop(self) -> None:
        """Kill it."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(_END_SECONDS)
        self.process = None


@contextmanager
def sidecar(
    folder: Path, changes: dict[str, str], *, token: str | None = None, **data: Any
) -> Iterator[Sidecar]:
    """Yield an OPA on the shipped policies with these changes and data, from its start on. With a token it
    asks for it, as `rego/system` has it.
    """
    folder.mkdir()
    running = Sidecar(free_port(), folder / "policy.tar.gz", require_opa(), token)
    running.put(changes, "r1", **data)
    try:
        running.start()
        yield running
    finally:
        if running.process is not None:
            running.stop()
