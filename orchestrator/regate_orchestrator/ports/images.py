"""What makes images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from regate_orchestrator.values import Json


class ImageFailed(Exception):
    """No image was made. The message is plain, and holds none of the upstream's words."""


@dataclass(frozen=True, slots=True)
class MadeImage:
    """An image, with the prompt as the upstream has understood it, if it says so."""

    data: bytes = field(repr=False)
    revised_prompt: str = field(default="", repr=False)


class ImageMaker(Protocol):
    """Makes images. Proven by `tests/e2e/test_image_generation.py`."""

    async def make(self, prompt: str, options: Mapping[str, Json]) -> MadeImage:
        """Return the image of the prompt. `options` are in OpenAI's words (`size`, `quality`, …).

        Must have a deadline and a limit on what is read. Raises `ImageFailed`.
        """
        ...
