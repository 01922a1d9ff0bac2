"""A guard behind a chat completion: a model that answers `safe`, or `unsafe` and the codes of what is (Llama
Guard and those that took its form over).

The score `unsafe` is 0 or 1; the labels are `unsafe` and the codes, as `S1`. It gives no places.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Final

from regate_adapters.guards.endpoint import GuardEndpoint, slices
from regate_adapters.json_endpoint import encodable
from regate_orchestrator.concurrency import few_at_once
from regate_orchestrator.ports import Findings, GuardStep

UNSAFE: Final = "unsafe"
_MAX_CONCURRENT: Final = 8
_MAX_TOKENS: Final = 64
_VERDICT: Final = re.compile(
    r"\s*(?:safe\s*|unsafe(?:\s+(?P<codes>[\w-]{1,32}(?:\s*,\s*[\w-]{1,32})*))?\s*)", re.IGNORECASE
)


class ClassifierGuard:
    """Asks about each text by itself, as something that a user said."""

    path: ClassVar = "/chat/completions"

    def __init__(self, endpoint: GuardEndpoint, *, model: str) -> None:
        self._endpoint = endpoint
        self._model = model

    async def look(self, texts: Sequence[str], *, step: GuardStep) -> list[Findings]:  # noqa: ARG002
        """Return the verdict on each text. See `ports.GuardProvider`."""
        parts = [(place, part) for place, text in enumerate(texts) for part in slices(text)]
        verdicts = await few_at_once([partial(self._labels, part) for _, part in parts], most=_MAX_CONCURRENT)
        labels = [frozenset[str]() for _ in texts]
        for (place, _), found in zip(parts, verdicts, strict=True):
            labels[place] |= found
        return [Findings({UNSAFE: float(bool(found))}, found) for found in labels]

    async def _labels(self, text: str) -> frozenset[str]:
        answer = await self._endpoint.look(
            {
                "model": self._model,
                "messages": [{"role": "user", "content": encodable(text)}],
                "temperature": 0,
                "max_tokens": _MAX_TOKENS,
            }
        )
        try:
            said = answer["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError) as error:
            raise self._endpoint.unusable("no chat completion") from error
        verdict = _VERDICT.fullmatch(said) if isinstance(said, str) else None
        if verdict is None:
            raise self._endpoint.unusable("neither 'safe' nor 'unsafe'")
        if verdict[0].strip().lower() == "safe":
            return frozenset()
        codes = (code.strip() for code in (verdict["codes"] or "").split(",") if code.strip())
        return frozenset({UNSAFE, *codes})
