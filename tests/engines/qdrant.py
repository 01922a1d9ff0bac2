"""What tests run Regate's Qdrant engine against: `qdrant_over_edge.py`, which says what of it is Qdrant."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.programs import HttpServer

from regate_adapters.testing.ports import free_port

_PROGRAM = Path(__file__).parent / "qdrant_over_edge.py"


@dataclass
class QdrantRun(HttpServer):
    """It can be stopped and started again on the same port, with what it kept."""

    ready = "/"

    api_key: str | None = None

    @property
    def command(self) -> Sequence[str]:
        key = [] if self.api_key is None else [self.api_key]
        return [sys.executable, str(_PROGRAM), str(self.port), str(self.folder / "data"), *key]


@contextmanager
def running_qdrant(folder: Path, *, api_key: str | None = None) -> Iterator[QdrantRun]:
    """Yield a new server with its files in this directory; it is gone at the end. Raises `ImportError` where
    the engine is not installed.
    """
    import qdrant_edge  # noqa: F401 — the program needs it

    with QdrantRun(free_port(), folder, api_key=api_key).running() as server:
        yield server


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Yield the address of a new one without a key, for `make prove`. Raises `ImportError` likewise."""
    with running_qdrant(folder) as server:
        yield server.url
