"""The limits of a quota, as a policy says them: numbers, and nothing but numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

from regate_orchestrator.ports import METERS, SCOPES, Meter, Scope
from regate_orchestrator.values import Json

LIMITS: Final = "limits"
"""What an allow at the quota's point is qualified by: what the policy said."""
MAX_SCOPES: Final = 32
_MAX_NAME: Final = 512
_MAX_NUMBER: Final = 10**15
"""Beyond it a counter's arithmetic is not exact."""
_NUMBERS: Final = ("rpm", "tpm", "max_turns", "max_tool_calls", "max_chunks", "max_output_tokens")
_COSTS: Final = ("cost_per_day", "cost_per_month")
_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class ScopeLimits:
    """Limits of what is spent together, by whoever is in the scope."""

    scope: Scope
    limits: Mapping[Meter, int]
    name: str = ""
    """The role; empty in the other scopes."""
    per_model: bool = False
    """Whether each model is counted apart."""


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens of the model cost, in whatever unit the budgets are in."""

    input: float = 0
    output: float = 0

    def of(self, input_tokens: int, output_tokens: int) -> int:
        """Return the price of so many tokens, in millionths of the unit, rounded up."""
        return math.ceil(input_tokens * self.input + output_tokens * self.output)


@dataclass(frozen=True, slots=True)
class QuotaLimits:
    """The six limits of a person, and those of further scopes. 0 is nothing at all."""

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
    scopes: tuple[ScopeLimits, ...] = ()
    price: Price = Price()


def read_limits(value: Json) -> QuotaLimits | None:
    """Return the limits in a policy's answer; None unless it says all six, each a whole number of 0 or
    more, and besides them at most `scopes` and `price`, which must be exactly what they can be.
    """
    if not isinstance(value, Mapping) or not set(_NUMBERS) <= set(value) <= {*_NUMBERS, "scopes", "price"}:
        return None
    numbers = {name: number for name in _NUMBERS if (number := _whole(value[name])) is not None}
    scopes, price = _scopes(value.get("scopes", [])), _price(value.get("price", {}))
    if len(numbers) < len(_NUMBERS) or scopes is None or price is None:
        return None
    return QuotaLimits(**numbers, scopes=scopes, price=price)


def _scopes(value: Json) -> tuple[ScopeLimits, ...] | None:
    if not isinstance(value, list) or len(value) > MAX_SCOPES:
        return None
    read = [_scope(one) for one in value]
    known = [one for one in read if one is not None]
    return tuple(known) if len(known) == len(read) else None


def _scope(value: Json) -> ScopeLimits | None:
    if not isinstance(value, Mapping) or not set(value) <= {"scope", "name", "per_model", "limits"}:
        return None
    scope, name, per_model = value.get("scope"), value.get("name", ""), value.get("per_model", False)
    limits = value.get("limits")
    if scope not in SCOPES or type(per_model) is not bool or not isinstance(name, str):
        return None
    if (scope == "role") != (name != "") or len(name) > _MAX_NAME or (scope == "model" and per_model):
        return None
    if not isinstance(limits, Mapping) or not set(limits) <= set(METERS):
        return None
    numbers = {
        cast("Meter", meter): number * (_MILLION if meter in _COSTS else 1)
        for meter, most in limits.items()
        if (number := _whole(most)) is not None
    }
    if len(numbers) < len(limits) or max(numbers.values(), default=0) > _MAX_NUMBER:
        return None
    return ScopeLimits(scope, numbers, name, per_model)


def _price(value: Json) -> Price | None:
    if not isinstance(value, Mapping) or not set(value) <= {"input", "output"}:
        return None
    rates: dict[str, float] = {}
    for name, rate in value.items():
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= _MILLION:
            return None
        rates[name] = rate
    return Price(**rates)


def _whole(value: Json) -> int | None:
    return value if type(value) is int and value >= 0 else None
