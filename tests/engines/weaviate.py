"""A real Weaviate server for tests, compiled from its module.

`python -m tests.engines.weaviate --into .tools` obtains it, which takes some minutes. Tests that need it are
skipped where it is not there.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.programs import HttpServer

from regate_adapters.go_commands import compiled, say
from regate_adapters.testing.ports import free_port
from regate_orchestrator.errors import ConfigurationError

COMMAND: Final = "weaviate-server"
MISSING: Final = "Weaviate is not installed: run `make engines`"
_TOOLS: Final = Path(__file__).parents[2] / ".tools"
_MODULE: Final = "github.com/weaviate/weaviate/cmd/weaviate-server@v1.35.2"
_ADVICE: Final = f"put `{COMMAND}` on PATH"
_PORTS: Final = (
    "CLUSTER_GOSSIP_BIND_PORT",
    "CLUSTER_DATA_BIND_PORT",
    "RAFT_PORT",
    "RAFT_INTERNAL_RPC_PORT",
    "GRPC_PORT",
)


def program() -> str | None:
    """Return the server's program, where it is installed."""
    return shutil.which(COMMAND, path=str(_TOOLS)) or shutil.which(COMMAND)


@dataclass
class WeaviateRun(HttpServer):
    """A server of one node that can be killed and started again on the same port, with what it kept."""

    ready = "/v1/.well-known/ready"

    api_key: str | None = None
    ports: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in _PORTS})

    @property
    def command(self) -> Sequence[str]:
        found = program()
        assert found is not None
        settings: dict[str, object] = {
            "PERSISTENCE_DATA_PATH": self.folder / "data",
            "CLUSTER_HOSTNAME": "tests",
            "CLUSTER_ADVERTISE_ADDR": "127.0.0.1",
            "RAFT_BOOTSTRAP_EXPECT": 1,
            "DISABLE_TELEMETRY": "true",
            "GO_PROFILING_DISABLE": "true",
            "DEFAULT_VECTORIZER_MODULE": "none",
            "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "true" if self.api_key is None else "false",
            **self.ports,
        }
        if self.api_key is not None:
            settings |= {
                "AUTHENTICATION_APIKEY_ENABLED": "true",
                "AUTHENTICATION_APIKEY_ALLOWED_KEYS": self.api_key,
                "AUTHENTICATION_APIKEY_USERS": "gateway",
            }
        place = ["--scheme", "http", "--host", "127.0.0.1", "--port", str(self.port)]
        return ["env", *(f"{name}={value}" for name, value in settings.items()), found, *place]


@contextmanager
def running_weaviate(folder: Path, *, api_key: str | None = None) -> Iterator[WeaviateRun]:
    """Yield a new server with its files in this directory; it is gone at the end. Raises `ImportError` where
    it is not installed.
    """
    if program() is None:
        raise ImportError(MISSING)
    with WeaviateRun(free_port(), folder, api_key=api_key).running() as server:
        yield server


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Yield the address of a new server, for the proof."""
    with running_weaviate(folder) as server:
        yield server.url


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile the server; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.engines.weaviate", description=main.__doc__)
    parser.add_argument("--into", type=Path, required=True, metavar="DIR")
    into: Path = parser.parse_args(arguments).into.resolve()
    try:
        into.mkdir(parents=True, exist_ok=True)
        if not (into / COMMAND).exists():
            with tempfile.TemporaryDirectory(prefix="weaviate-", dir=into) as folder:
                shutil.move(compiled(_MODULE, Path(folder), advice=_ADVICE), into / COMMAND)
        say(f"Weaviate is ready: {into / COMMAND}")
    except (ConfigurationError, OSError) as error:
        sys.stderr.write(f"Weaviate could not be installed: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
