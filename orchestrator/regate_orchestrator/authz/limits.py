"""The limits of a quota, as a policy says them: six numbers, and nothing but numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

from regate_orchestrator.values import Json

LIMITS: Final = "limits"
"""What an allow at the quota's point is qualified by: what the policy said."""


@dataclass(frozen=True, slots=True)
class QuotaLimits:
    """The six limits. 0 is nothing at all."""

    rpm: int
    """Requests a minute."""
    tpm: int
    """Tokens a minute."""
    max_turns: int
    """Model calls of one response."""
    max_tool_calls: int
    """Tool calls of one response."""
    max_chunks: int
    """Chunks that one search gives to the model."""
    max_output_tokens: int
    """Tokens that one answer may have."""


def read_limits(value: Json) -> QuotaLimits | None:
    """Return the limits in a policy's answer; None unless it says all six, each a whole number of 0 or
    more, and nothing else.
    """
    names = [field.name for field in fields(QuotaLimits)]
    if not isinstance(value, Mapping) or set(value) != set(names):
        return None
    numbers = {name: number for name, number in value.items() if type(number) is int and number >= 0}
    return QuotaLimits(**numbers) if len(numbers) == len(names) else None
