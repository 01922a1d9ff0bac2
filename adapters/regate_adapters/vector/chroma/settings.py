"""The settings of Chroma, embedded and as a server."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from regate_adapters.vector.kind import EmbeddedSettings, EngineSettings


class ChromaSettings(EmbeddedSettings):
    """Chroma inside the gateway's process."""

    kind: Literal["chroma"] = "chroma"


class ChromaServerSettings(EngineSettings):
    """A Chroma server."""

    kind: Literal["chroma_server"] = "chroma_server"
    url: str = Field(
        description="Address of a Chroma server, as `http://host:port`; required with `kind: chroma_server`."
    )
    timeout_s: float = Field(
        default=4,
        gt=0,
        description="Longest wait for a Chroma server: for each answer, and for a search or any other "
        "operation as a whole; adding chunks and stamping them anew may take eight times as long.",
        json_schema_extra={"default_text": "4"},
    )
