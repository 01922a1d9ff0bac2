"""The settings of the local engine."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from regate_adapters.vector.kind import EmbeddedSettings


class LocalSettings(EmbeddedSettings):
    """Vectors in a file of the gateway's own, searched in memory."""

    kind: Literal["local"] = "local"
    memory_mb: int = Field(
        default=512,
        ge=16,
        description="Memory for the vectors and words of what was searched last, in MiB. What is not in it "
        "is read from the file when it is searched.",
        json_schema_extra={"default_text": "512"},
    )
