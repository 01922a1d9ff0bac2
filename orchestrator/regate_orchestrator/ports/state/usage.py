"""What was used, by whom, of which model, on which day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

UsageKey: TypeAlias = Literal["tenant", "principal", "model"]


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What was used. Of a sum over several of them the fields that differ are empty."""

    tenant: str
    principal: str
    model: str
    """Empty for requests that no model answered."""
    day: int
    """Days since 1970-01-01, in UTC."""
    requests: int
    input_tokens: int
    output_tokens: int
    cost: int
    """In millionths of the unit of the prices."""


class UsageState(Protocol):
    """Adds up what was used, of all tenants."""

    async def add(self, rows: Sequence[UsageRow]) -> None:
        """Add to what is there, all of it or nothing."""
        ...

    async def report(self, *, first: int, last: int, by: Sequence[UsageKey]) -> list[UsageRow]:
        """Return the sums of these days, both included, for each value of the keys, in their order; the day
        of a sum is the first.
        """
        ...

    async def spent(self, *, first: int, tenant: str, person: str, model: str) -> UsageRow:
        """Return the sum from this day on; an empty name is all."""
        ...

    async def forget(self, *, before: int) -> int:
        """Forget all days before this one; return how many rows."""
        ...
