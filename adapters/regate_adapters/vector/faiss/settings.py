"""The settings of FAISS."""

from __future__ import annotations

from typing import Literal

from regate_adapters.vector.local.settings import InMemorySettings


class FaissSettings(InMemorySettings):
    """Vectors in a file of the gateway's own, searched in memory by FAISS."""

    kind: Literal["faiss"] = "faiss"
