"""The settings of LanceDB."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from regate_adapters.vector.kind import EmbeddedSettings


class LanceDbSettings(EmbeddedSettings):
    """LanceDB inside the gateway's process."""

    kind: Literal["lancedb"] = "lancedb"
    timeout_s: float = Field(
        default=10,
        gt=0,
        description="Longest time for a search or any other operation in LanceDB's files; adding, removing "
        "and tidying up may take eight times as long.",
        json_schema_extra={"default_text": "10"},
    )
