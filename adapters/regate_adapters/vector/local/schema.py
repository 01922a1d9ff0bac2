"""The tables of the local engine, and connections to them, by any library for SQLite's files.

Strings are kept as UTF-8 bytes, since SQLite's text holds neither every string nor always the one that was
given.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from regate_orchestrator.errors import ConfigurationError

FILE: Final = "vectors.db"
_OF_CHROMA: Final = "chroma.sqlite3"
_SETTINGS: Final = (
    "busy_timeout=30000",
    "journal_mode=WAL",
    "synchronous=FULL",
    "cache_size=-16384",
    "mmap_size=1073741824",
)

_MIGRATIONS: Final = (
    """
    CREATE TABLE stores (
      number INTEGER PRIMARY KEY AUTOINCREMENT,
      id BLOB NOT NULL UNIQUE,
      dimensions INTEGER NOT NULL,
      chunks INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE partitions (  -- the chunks of one tenant in one store
      number INTEGER PRIMARY KEY AUTOINCREMENT,
      store INTEGER NOT NULL REFERENCES stores,
      tenant BLOB NOT NULL,
      added INTEGER NOT NULL DEFAULT 0,    -- how often chunks were added
      removed INTEGER NOT NULL DEFAULT 0,  -- and how often removed
      UNIQUE (store, tenant)
    );
    CREATE TABLE stamps (  -- each once in its partition
      number INTEGER PRIMARY KEY AUTOINCREMENT,
      partition INTEGER NOT NULL REFERENCES partitions,
      digest BLOB NOT NULL,
      version TEXT NOT NULL,
      stamp TEXT NOT NULL,
      attributes TEXT NOT NULL,
      UNIQUE (partition, digest)
    );
    CREATE TABLE chunks (
      number INTEGER PRIMARY KEY AUTOINCREMENT,
      store INTEGER NOT NULL REFERENCES stores,
      partition INTEGER NOT NULL REFERENCES partitions,
      stamp INTEGER NOT NULL REFERENCES stamps,
      id BLOB NOT NULL,
      file BLOB NOT NULL,
      generation BLOB NOT NULL,
      place INTEGER NOT NULL,
      vector BLOB NOT NULL,  -- 32-bit floats
      words BLOB NOT NULL,   -- the 64-bit numbers of its words, ascending
      counts BLOB NOT NULL,  -- how often each is there, 16 bits
      UNIQUE (store, id)
    );
    CREATE INDEX chunks_of_store ON chunks (store);
    CREATE INDEX chunks_of_partition ON chunks (partition);
    CREATE INDEX chunks_of_stamp ON chunks (stamp);
    CREATE INDEX chunks_of_file ON chunks (store, file, generation);
    CREATE TABLE texts (number INTEGER PRIMARY KEY REFERENCES chunks, text BLOB NOT NULL);
    """,
)


class Rows(Protocol):
    """What a statement returns."""

    def fetchone(self) -> Any: ...  # noqa: D102 — as in Python's library
    def fetchall(self) -> list[Any]: ...  # noqa: D102
    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """A connection to a file. Any thread may use it, one at a time; transactions are begun and ended in
    words.
    """

    def execute(self, statement: str, values: Sequence[Any] = ..., /) -> Rows: ...  # noqa: D102
    def executemany(self, statement: str, values: Iterable[Sequence[Any]], /) -> object: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Library:
    """How a file is opened, and what is raised when SQLite fails.

    All connections to a file must be of one library: each has locks of its own, and when one closes the file,
    the process loses the locks of the other.
    """

    open: Callable[[Path], Connection]
    error: type[Exception]


PYTHONS: Final = Library(
    lambda path: sqlite3.connect(path, isolation_level=None, check_same_thread=False), sqlite3.Error
)


def connect(folder: Path, library: Library) -> Connection:
    """Return a connection to the file, set up as all of them are."""
    connection = library.open(folder / FILE)
    for setting in _SETTINGS:
        connection.execute(f"PRAGMA {setting}")
    return connection


def prepare(folder: Path, library: Library) -> None:
    """Bring the file up to date. Raises `ConfigurationError` when it cannot be used, or is of a later
    version.
    """
    if (folder / _OF_CHROMA).exists():
        raise ConfigurationError(
            f"{folder} holds the vectors of a Chroma, which was the default before. To go on with it, set "
            "kind: chroma at this engine and install regate[chroma]; or give this engine another path"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        connection = connect(folder, library)
        try:
            _migrate(connection, folder)
        finally:
            connection.close()
    except (library.error, OSError) as error:
        raise ConfigurationError(f"the vectors in {folder / FILE} cannot be used: {error}") from error


def _migrate(connection: Connection, folder: Path) -> None:
    connection.execute("BEGIN IMMEDIATE")
    (present,) = connection.execute("PRAGMA user_version").fetchone()
    if present > len(_MIGRATIONS):
        connection.execute("ROLLBACK")
        raise ConfigurationError(
            f"the vectors in {folder / FILE} are of version {present}, and this program knows "
            f"{len(_MIGRATIONS)} at most"
        )
    for version in range(present, len(_MIGRATIONS)):
        for statement in _MIGRATIONS[version].split(";\n"):
            if statement.strip():
                connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")
    connection.execute("COMMIT")


def stored(text: str) -> bytes:
    """Return a string as it is kept; any string can be."""
    return text.encode(errors="surrogatepass")


def shown(kept: bytes) -> str:
    """Return the string that was kept."""
    return kept.decode(errors="surrogatepass")
