"""An HTTP endpoint that looks at texts. No word of what it said is in any error, since it may quote them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from regate_adapters.json_endpoint import EndpointFailed, JsonEndpoint
from regate_orchestrator.errors import GuardUnavailable
from regate_orchestrator.values import JsonObject

_LONGEST: Final = 16_384
_OVERLAP: Final = 512


class GuardEndpoint(JsonEndpoint):
    """Takes JSON and gives JSON. Must be entered before use. Whoever asks must have a deadline."""

    most_bytes = 4 * 1024 * 1024
    most_connections = 64

    def __init__(self, name: str, base_url: str, path: str, *, api_key: str | None) -> None:
        super().__init__(base_url, path, api_key=api_key, deadline_s=None)
        self.name = name

    async def look(self, question: JsonObject) -> dict[str, Any]:
        """Return the JSON object that is answered. Raises `GuardUnavailable` for anything else."""
        try:
            document = orjson.loads(await self.ask(question))
        except EndpointFailed as error:
            raise self.unusable(str(error)) from error
        except ValueError as error:
            raise self.unusable("no JSON") from error
        if not isinstance(document, dict):
            raise self.unusable("no JSON object")
        return document

    def unusable(self, why: str) -> GuardUnavailable:
        """Return the error of an answer that cannot be used."""
        return GuardUnavailable(f"{self.name}: {why}")


def slices(text: str) -> Sequence[str]:
    """Return the text in parts that a model takes, each with the end of the one before."""
    if len(text) <= _LONGEST:
        return [text]
    return [text[start : start + _LONGEST] for start in range(0, len(text) - _OVERLAP, _LONGEST - _OVERLAP)]
