"""A real OpenSearch with its k-NN plugin for tests, out of Maven Central.

`python -m tests.engines.opensearch --into .tools` obtains it, with Maven and a JDK of 17 or later. Tests that
need it are skipped where it is not there.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.programs import HttpServer

from regate_adapters.testing.ports import free_port

HOME: Final = Path(__file__).parents[2] / ".tools" / "opensearch"
MISSING: Final = "OpenSearch is not installed: run `make engines`, which needs Maven and a JDK"
_HERE: Final = Path(__file__).parent
_PLUGIN: Final = "org.opensearch.plugin:opensearch-knn:2.19.1.0:zip"
_NODE: Final = "OpenSearchNode"
_MEMORY: Final = "512m"


def is_installed() -> bool:
    """Return whether the server can be started."""
    return (HOME / f"{_NODE}.class").is_file() and shutil.which("java") is not None


class OpenSearchRun(HttpServer):
    """A node that can be killed and started again on the same port, with what it kept."""

    ready = "/_cluster/health?wait_for_status=yellow"

    @property
    def command(self) -> Sequence[str]:
        places = ":".join([str(HOME), *(f"{HOME / name}/*" for name in ("lib", "knn"))])
        memory = (f"-Xms{_MEMORY}", f"-Xmx{_MEMORY}", "-XX:+UseSerialGC")
        return ["java", *memory, "-cp", places, _NODE, str(self.folder / "node"), str(self.port)]


@contextmanager
def running_opensearch(folder: Path) -> Iterator[OpenSearchRun]:
    """Yield a new node with its files in this directory; it is gone at the end. Raises `ImportError` where
    it is not installed.
    """
    if not is_installed():
        raise ImportError(MISSING)
    with OpenSearchRun(free_port(), folder).running() as server:
        yield server


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Yield the address of a new node, for the proof."""
    with running_opensearch(folder) as server:
        yield server.url


def install(into: Path) -> None:
    """Put the server into the directory. Raises `subprocess.CalledProcessError` with what Maven said."""
    with tempfile.TemporaryDirectory(prefix="opensearch-", dir=into) as made:
        home = Path(made) / "opensearch"
        _maven("copy-dependencies", f"-DoutputDirectory={home / 'lib'}", "-f", f"{_HERE}/opensearch.pom.xml")
        _maven("copy", f"-Dartifact={_PLUGIN}", f"-DoutputDirectory={home / 'zip'}")
        (plugin,) = (home / "zip").iterdir()
        with zipfile.ZipFile(plugin) as archive:
            archive.extractall(home / "knn")
        source = str(_HERE / f"{_NODE}.java")
        subprocess.run(["javac", "-cp", f"{home / 'lib'}/*", "-d", str(home), source], check=True)
        home.rename(into / "opensearch")


def _maven(goal: str, *options: str) -> None:
    subprocess.run(["mvn", "-q", "-B", f"dependency:{goal}", *options], check=True, cwd=_HERE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Obtain the server; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.engines.opensearch", description=main.__doc__)
    parser.add_argument("--into", type=Path, required=True, metavar="DIR")
    into: Path = parser.parse_args(arguments).into.resolve()
    into.mkdir(parents=True, exist_ok=True)
    try:
        if not (into / "opensearch").exists():
            install(into)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"OpenSearch could not be installed, which takes Maven and a JDK of 17: {error}\n")
        return 1
    sys.stdout.write(f"OpenSearch is ready: {into / 'opensearch'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
