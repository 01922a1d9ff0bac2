"""A Jupyter kernel gateway for the tests, in an environment of its own: kernels never run in this process."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

PACKAGES: Final = ("jupyter-kernel-gateway>=3,<4", "ipykernel>=6,<8")
TOKEN: Final = "kernel-token"
_PLACE: Final = Path(__file__).parents[1] / ".tools" / "kernel-gateway"
_READY: Final = _PLACE / "ready"
_START_SECONDS: Final = 120
_MAX_ASKED: Final = 1_000


@dataclass(frozen=True)
class KernelGateway:
    """A running kernel gateway."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kernels(self) -> list[str]:
        """The kernels that there are. While one of them comes or goes the kernel gateway answers 500."""
        import json

        for _ in range(_MAX_ASKED):
            with suppress(urllib.error.HTTPError):
                return [one["id"] for one in json.loads(self.get("/api/kernels"))]
        raise AssertionError("the kernel gateway does not list its kernels")

    def get(self, path: str) -> bytes:
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"token {TOKEN}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bytes(answer.read())


@contextmanager
def kernel_gateway(directory: Path) -> Iterator[KernelGateway]:
    """A kernel gateway whose files are below the directory; skips where it cannot be installed."""
    _installed()
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    home = {name: str(directory) for name in ("HOME", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "TMPDIR")}
    command = [
        str(_PLACE / "bin" / "python"),
        *("-m", "kernel_gateway", "--KernelGatewayApp.ip=127.0.0.1", f"--KernelGatewayApp.port={port}"),
        *(f"--KernelGatewayApp.auth_token={TOKEN}", "--JupyterWebsocketPersonality.list_kernels=True"),
    ]
    log = directory / "kernel-gateway.log"
    with log.open("wb") as out:
        running = subprocess.Popen(command, cwd=directory, env=os.environ | home, stdout=out, stderr=out)
    try:
        gateway = KernelGateway(port)
        _wait_for(gateway, running, log)
        yield gateway
    finally:
        running.terminate()
        running.wait(30)


def _installed() -> None:
    """Have it installed by one of the processes that want it at the same time."""
    _PLACE.parent.mkdir(exist_ok=True)
    with (_PLACE.parent / "kernel-gateway.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _READY.exists():
            _install()


def _install() -> None:
    shutil.rmtree(_PLACE, ignore_errors=True)
    try:
        subprocess.run([sys.executable, "-m", "venv", str(_PLACE)], check=True, capture_output=True)
        pip = [str(_PLACE / "bin" / "python"), "-m", "pip", "install", "--quiet", *PACKAGES]
        subprocess.run(pip, check=True, capture_output=True, timeout=600)
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"there is no Jupyter kernel gateway, and none can be installed: {error}")
    _READY.touch()


def _wait_for(gateway: KernelGateway, running: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            gateway.kernels()
        except OSError:
            if running.poll() is not None or time.monotonic() > until:
                raise AssertionError(log.read_text()[-2000:]) from None
            time.sleep(0.1)
        else:
            return
