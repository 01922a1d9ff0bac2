"""Counting tokens without a tokenizer: an estimate, the same for every model. Where an upstream
reports its usage, that counts instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from regate_orchestrator.values import Json

BYTES_PER_TOKEN: Final = 4
_ENCLOSED: Final = "data:"
_ENCLOSED_TOKENS: Final = 1_000
"""What an image or a file inside a request is taken to cost; its bytes say nothing of that."""


def estimated_tokens(value: Json) -> int:
    """Return about how many tokens a part of a request is: by the bytes of its texts and names; what
    is enclosed counts as a fixed number.
    """
    return 1 + _bytes(value) // BYTES_PER_TOKEN


def _bytes(value: Json) -> int:
    match value:
        case str():
            return (
                _ENCLOSED_TOKENS * BYTES_PER_TOKEN
                if value.startswith(_ENCLOSED)
                else len(value.encode("utf-8", "replace"))
            )
        case Mapping():
            return sum(len(name) + _bytes(member) for name, member in value.items())
        case Sequence():
            return sum(map(_bytes, value))
        case _:
            return 1
