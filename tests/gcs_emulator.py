"""fake-gcs-server, an emulator of Google Cloud Storage, for tests: on a loopback port, with objects as files.

`make gcs` compiles it, which takes minutes. It knows neither tokens nor what an upload lost.
"""

from __future__ import annotations

import http.client
import json
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.programs import Server

from regate_adapters.go_commands import compiled
from regate_adapters.testing.ports import free_port

_NAME = "fake-gcs-server"
_MODULE = "github.com/fsouza/fake-gcs-server@v1.56.1"


def command() -> str | None:
    """Return where it is, in `.tools` of the project or on PATH; None where it is not."""
    made = Path(__file__).resolve().parents[1] / ".tools" / _NAME
    return str(made) if made.exists() else shutil.which(_NAME)


@dataclass
class GcsEmulator(Server):
    """A server that runs."""

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def command(self) -> list[str]:
        place = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(self.port)]
        return [
            str(command()),
            *place,
            *("-external-url", self.url, "-filesystem-root", str(self.folder / "data")),
        ]

    def answers(self) -> bool:
        try:
            return self._asked("GET", "/_internal/healthcheck") == 200
        except OSError:
            return False

    def bucket(self) -> str:
        """Return the name of a new, empty bucket."""
        name = f"test-{secrets.token_hex(8)}"
        assert self._asked("POST", "/storage/v1/b?project=test", json.dumps({"name": name})) == 200
        return name

    def _asked(self, method: str, path: str, body: str = "") -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            return connection.getresponse().status
        finally:
            connection.close()


@contextmanager
def running_gcs_emulator(folder: Path) -> Iterator[GcsEmulator]:
    """Yield a new server; it is gone at the end."""
    with GcsEmulator(free_port(), folder).running() as server:
        yield server


def main() -> None:
    """Compile it into `.tools`."""
    with tempfile.TemporaryDirectory(prefix="regate-gcs-") as folder:
        made = compiled(_MODULE, Path(folder), advice="run `make gcs` again")
        shutil.move(made, Path(__file__).resolve().parents[1] / ".tools" / _NAME)


if __name__ == "__main__":
    main()
