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
