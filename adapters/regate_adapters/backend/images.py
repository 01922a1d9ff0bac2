"""Images by the `/images/generations` of an upstream."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from regate_adapters.backend.upstreams import Upstreams
from regate_orchestrator.errors import UpstreamError
from regate_orchestrator.ports import ImageFailed, MadeImage
from regate_orchestrator.values import Json

_FAILED: Final = "The image could not be made."
_AROUND: Final = 65_536
"""Bytes of an answer beside the image."""
_MAX_PROMPT: Final = 32_000


@dataclass(frozen=True, slots=True)
class UpstreamImages:
    """Asks one upstream for images of one model."""

    upstreams: Upstreams
    upstream: str
    model: str
    deadline_s: float = 120.0
    max_bytes: int = 4 * 1024 * 1024
    asks_for_base64: bool = False
    """Whether it is told to answer with the image rather than with its address, as older models must be."""

    async def make(self, prompt: str, options: Mapping[str, Json]) -> MadeImage:
        """Return the image of the prompt; see the port (`ports/images.py`)."""
        payload: dict[str, Json] = {"model": self.model, "prompt": prompt, "n": 1, **options}
        if self.asks_for_base64:
            payload["response_format"] = "b64_json"
        asking = self.upstreams.open(self.upstream, "/images/generations", payload, accept_stream=False)
        try:
            async with asyncio.timeout(self.deadline_s), asking as answer:
                body = await answer.read(limit=self.max_bytes * 4 // 3 + _AROUND)
        except (UpstreamError, TimeoutError) as error:
            raise ImageFailed(_FAILED) from error
        return self._read(body)

    def _read(self, body: bytes) -> MadeImage:
        try:
            image: Any = orjson.loads(body)["data"][0]
            data = base64.b64decode(image["b64_json"], validate=True)
            revised = image.get("revised_prompt")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, binascii.Error) as error:
            raise ImageFailed(_FAILED) from error
        if not 0 < len(data) <= self.max_bytes:
            raise ImageFailed("The image is larger than it may be.")
        return MadeImage(data, revised[:_MAX_PROMPT] if isinstance(revised, str) else "")
