"""What a completion cost, in the shapes that backends tell it in and wherever they put it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from regate_orchestrator.model_events import Usage

_DETAILS: Final = (
    "prompt_tokens_details",
    "input_tokens_details",
    "completion_tokens_details",
    "output_tokens_details",
)
_MOST: Final = 2**53


def usage_in(chunk: Mapping[str, object]) -> Usage | None:
    """Return the usage that a chunk tells: beside the choices, inside the first, or among a host's own
    members; None where it tells none.
    """
    choices = chunk.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    for holder in (chunk, first, chunk.get("x_groq")):
        told = holder.get("usage") if isinstance(holder, Mapping) else None
        if isinstance(told, Mapping) and (usage := read_usage(told)) != Usage():
            return usage
    return None


def read_usage(usage: Mapping[str, object]) -> Usage:
    """Return the usage; what is missing, or no count, is zero."""
    detailed = {**usage}
    for name in _DETAILS:
        if isinstance(inner := usage.get(name), Mapping):
            detailed |= inner
    return Usage(
        input_tokens=_count(usage, "prompt_tokens", "input_tokens"),
        cached_tokens=_count(detailed, "cached_tokens", "prompt_cache_hit_tokens"),
        output_tokens=_count(usage, "completion_tokens", "output_tokens"),
        reasoning_tokens=_count(detailed, "reasoning_tokens"),
    )


def _count(counts: Mapping[str, object], *names: str) -> int:
    """Return the first of these that counts anything."""
    for name in names:
        value = counts.get(name)
        if (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and 1 <= value < _MOST
            and value == int(value)
        ):
            return int(value)
    return 0
