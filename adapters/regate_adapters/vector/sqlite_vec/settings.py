"""The settings of sqlite-vec."""

from __future__ import annotations

from typing import Literal

from regate_adapters.vector.kind import EmbeddedSettings


class SqliteVecSettings(EmbeddedSettings):
    """Vectors in a file of the gateway's own, searched inside SQLite."""

    kind: Literal["sqlite_vec"] = "sqlite_vec"
