"""The settings of the memory: there are none but its kind."""

from __future__ import annotations

from typing import Literal

from regate_adapters.vector.kind import EngineSettings


class MemorySettings(EngineSettings):
    """Vectors in memory."""

    kind: Literal["memory"] = "memory"
