"""The settings of the local engine."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from regate_adapters.vector.kind import EmbeddedSettings


class InMemorySettings(EmbeddedSettings):
    """Vectors in a file of the gateway's own, searched in memory."""

    memory_mb: int = Field(
        default=512,
        ge=16,
        description="Memory for the vectors and words of what was searched last, in MiB. What is not in it "
        "is read from the file when it is searched.",
        json_schema_extra={"default_text": "512"},
    )

    @property
    def memory(self) -> int:
        """Return the memory in bytes."""
        return self.memory_mb << 20


class LocalSettings(InMemorySettings):
    """Vectors in a file of the gateway's own, searched in memory with NumPy."""

    kind: Literal["local"] = "local"
