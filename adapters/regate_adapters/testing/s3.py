"""A real S3 server for tests: Versity's gateway, over a temporary directory, on a loopback port. Not a fake.

`python -m regate_adapters.testing.s3 --into DIR` compiles it once. It keeps objects as files, so a test can
see what is left behind.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import http.client
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from regate_adapters.go_commands import compiled, say
from regate_adapters.testing.ports import free_port
from regate_orchestrator.errors import ConfigurationError

COMMAND: Final = "versitygw"
_MODULE: Final = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
_ADVICE: Final = f"run `make unit`, or put `{COMMAND}` on PATH"
_READY_SECONDS: Final = 20.0
_UNFINISHED: Final = ".sgwtmp/multipart"


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server. Buckets are directories below `root`."""

    url: str
    access_key_id: str
    secret_access_key: str
    root: Path

    def bucket(self) -> str:
        """Return the name of a new, empty bucket."""
        name = f"test-{secrets.token_hex(8)}"
        (self.root / name).mkdir()
        return name

    def objects(self, bucket: str) -> dict[str, int]:
        """Return the keys in the bucket, with their sizes."""
        place = self.root / bucket
        files = (path for path in place.rglob("*") if path.is_file() and ".sgwtmp" not in path.parts)
        return {path.relative_to(place).as_posix(): path.stat().st_size for path in files}

    def parts(self, bucket: str) -> int:
        """Return how many parts of uploads that were not ended the bucket holds."""
        return sum(path.is_file() for path in (self.root / bucket / _UNFINISHED).rglob("*"))


@contextmanager
def running_s3() -> Iterator[S3Server]:
    """Yield a new server; it and its files are gone at the end."""
    command = require_s3()
    with tempfile.TemporaryDirectory(prefix="s3-") as folder:
        root, notes, log = Path(folder) / "data", Path(folder) / "notes", Path(folder) / "log"
        root.mkdir()
        notes.mkdir()  # beside the data, so that no file system needs extended attributes
        port = free_port()
        environment = {"ROOT_ACCESS_KEY": "regate", "ROOT_SECRET_KEY": secrets.token_hex(16), "HOME": folder}
        options = [
            "--port",
            f"127.0.0.1:{port}",
            "--health",
            "/health",
            "--quiet",
            "posix",
            "--sidecar",
            str(notes),
            str(root),
        ]
        with (
            log.open("wb") as output,
            subprocess.Popen(
                [command, *options],
                stdout=output,
                stderr=output,
                env=environment,
                preexec_fn=_end_with_parent,  # noqa: PLW1509
            ) as process,
        ):
            try:
                _wait_until_ready(process, port, log)
                yield S3Server(
                    f"http://127.0.0.1:{port}",
                    environment["ROOT_ACCESS_KEY"],
                    environment["ROOT_SECRET_KEY"],
                    root,
                )
            finally:
                process.kill()


def require_s3() -> Path:
    """Return the server's command, from `.tools` of the project or from PATH. Raises
    `ConfigurationError` that says what to do.
    """
    made = Path(__file__).resolve().parents[3] / ".tools" / COMMAND
    found = str(made) if made.exists() else shutil.which(COMMAND)
    if found is None:
        raise ConfigurationError(f"no `{COMMAND}` was found: {_ADVICE}")
    return Path(found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile the server; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m regate_adapters.testing.s3", description="Obtain the S3 server that tests use."
    )
    parser.add_argument(
        "--into", type=Path, required=True, metavar="DIR", help=f"the directory to put `{COMMAND}` into"
    )
    into: Path = parser.parse_args(arguments).into.resolve()
    try:
        into.mkdir(parents=True, exist_ok=True)
        if not (into / COMMAND).exists():
            with tempfile.TemporaryDirectory(prefix="regate-s3-", dir=into) as folder:
                shutil.move(compiled(_MODULE, Path(folder), advice=_ADVICE), into / COMMAND)
        say(f"The S3 server is ready: {into / COMMAND}")
    except (ConfigurationError, OSError) as error:
        sys.stderr.write(f"The S3 server could not be installed: {error}\n")
        return 1
    return 0


def _end_with_parent() -> None:
    """Ask Linux to stop this process when the tests' process is killed; elsewhere such a server stays."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    give_up = time.monotonic() + _READY_SECONDS
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/health")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return
        connection.close()
        if process.poll() is not None or time.monotonic() > give_up:
            raise RuntimeError(f"the S3 server did not start: {log.read_text()}")
        time.sleep(0.02)


if __name__ == "__main__":
    raise SystemExit(main())
