"""Where Chroma runs: embedded in a directory of this process, or on a server (`server.py`). What is done
there, `store.py` says.

Embedded Chroma keeps the index of every collection that it was asked anything about: four open files and some
2.6 MB each. At a bound of its own (a fifth of the limit on open files, in 64 parts) it lets go of one that it
may then read without its newest chunks, or not at all. So here it never comes to that: `Directory` lifts that
bound, and says how many may be open before the client is made anew (`engine.py`).

Chroma looks for a collection's segments, and for its part of the log, by reading those of all collections; it
does so each time it opens one. So `Directory` adds the indexes that it lacks.
"""

from __future__ import annotations

import logging
import os
import resource
import sqlite3
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from regate_adapters.vector.holding import hold

if TYPE_CHECKING:
    from chromadb.api import ClientAPI
    from chromadb.config import Settings

_log = logging.getLogger("regate.vector")

_MAX_OPEN: Final = 64
"""166 MB of small stores. Measured: 8 to 15 ms to open one, and 20 to 80 for a new client each time
that so many others were opened.
"""

_SHARE: Final = 16
"""Of so many files that may be open one store may be: a quarter of the limit goes to indexes, and with
1,024 files 64 stores are open.
"""

_NO_BOUND: Final = 65_536
"""The bound of Chroma's own server, which is divided by 64 as well."""

_DATABASE: Final = "chroma.sqlite3"
_INDEXES: Final = {
    "segments": "CREATE INDEX IF NOT EXISTS regate_segments ON segments (collection)",
    "embeddings_queue": "CREATE INDEX IF NOT EXISTS regate_queue ON embeddings_queue (topic, seq_id)",
}
"""Measured with 10,000 stores of three chunks: a search of one that is not open took 91 ms without them, and
23 with them, as among ten stores.
"""


class ChromaPlace(Protocol):
    """Where Chroma runs, and how to reach it."""

    @property
    def most_open(self) -> int | None:
        """Return for how many stores a client may be used before it is closed and another is made;
        None where that would close nothing.
        """
        ...

    @property
    def is_shared(self) -> bool:
        """Return whether other programs may write there."""
        ...

    @property
    def timeout_s(self) -> float | None:
        """Return how long an operation may take there; None where there is no network in between."""
        ...

    def until(self, give_up: float) -> AbstractContextManager[None]:
        """Have what this thread asks of the client fail at that time of the monotonic clock."""
        ...

    def hold(self) -> None:
        """Make the place ready. Raises `ConfigurationError` when it cannot be used."""
        ...

    def release(self) -> None:
        """Give up what `hold` took."""
        ...

    def client(self) -> ClientAPI:
        """Return a new client. Called in a thread, when there is none; it may load Chroma, and may
        fail with anything.
        """
        ...

    def probe(self, client: ClientAPI | None) -> None:
        """Fail with anything when the engine does not answer. The client is None as long as none was
        needed; none must be made for this.
        """
        ...


class Directory:
    """Chroma embedded in this process, which alone may use the directory."""

    is_shared = False
    timeout_s = None

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: int | None = None

    @property
    def most_open(self) -> int:
        """Return how many stores may be open under the limit on open files as it is now."""
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return _MAX_OPEN if limit == resource.RLIM_INFINITY else max(1, min(_MAX_OPEN, limit // _SHARE))

    def until(self, give_up: float) -> AbstractContextManager[None]:  # noqa: ARG002 — nothing ends its calls
        """Return what changes nothing: a call in this process cannot be ended."""
        return nullcontext()

    def hold(self) -> None:
        """Lock the directory for this process. Raises `ConfigurationError` when another holds it."""
        self._held = hold(self._path, "Embedded Chroma")

    def release(self) -> None:
        """Unlock the directory."""
        held, self._held = self._held, None
        if held is not None:
            os.close(held)

    def client(self) -> ClientAPI:
        """Return a client on the directory, which loads Chroma. No other may be open."""
        from chromadb.api import ServerAPI
        from chromadb.api.client import Client
        from chromadb.config import System
        from chromadb.telemetry.product import ProductTelemetryClient

        system = System(quiet_settings(is_persistent=True, persist_directory=str(self._path)))
        system.instance(ProductTelemetryClient)
        bindings: Any = system.instance(ServerAPI)
        bindings.hnsw_cache_size = _NO_BOUND
        system.start()
        _add_indexes(self._path / _DATABASE)
        return Client.from_system(system)

    def probe(self, client: ClientAPI | None) -> None:
        """Ask an engine that is loaded for its collections."""
        if client is not None:
            client.list_collections(limit=1)


def quiet_settings(**settings: Any) -> Settings:
    """Return Chroma's settings: no `.env` of the working directory and no telemetry may reach the engine."""
    from chromadb.config import Settings

    return Settings(_env_file=None, anonymized_telemetry=False, allow_reset=False, **settings)


def _add_indexes(database: Path) -> None:
    """Add to Chroma's own tables the indexes that they lack. One that cannot be added is logged: without it
    nothing is wrong, and all is slower.
    """
    for table, statement in _INDEXES.items():
        try:
            with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True)) as connection:
                connection.execute(statement)
        except sqlite3.Error as error:
            _log.warning("chroma_index_missing", extra={"detail": table, "cause": str(error)})
