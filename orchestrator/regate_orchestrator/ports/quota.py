"""Counting what callers spend.

A counter holds no limits: each call brings those of now. What is counted together is an `Account`: a person,
the holders of a role within a tenant, a tenant, or a model, and each of the first three for one model alone
where the policy says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, TypeAlias, get_args

Scope: TypeAlias = Literal["person", "role", "tenant", "model"]
Window: TypeAlias = Literal["minute", "day", "month"]
Meter: TypeAlias = Literal[
    "rpm",
    "tpm",
    "concurrent",
    "requests_per_day",
    "tokens_per_day",
    "cost_per_day",
    "requests_per_month",
    "tokens_per_month",
    "cost_per_month",
]
"""What is limited: requests and tokens of any 60 seconds, requests at the same time, and what is spent within
a day and a month of the calendar (UTC).
"""

SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
METERS: Final[tuple[Meter, ...]] = get_args(Meter)
BUDGETS: Final[Mapping[Window, Mapping[str, Meter]]] = {
    "day": {"requests": "requests_per_day", "tokens": "tokens_per_day", "cost": "cost_per_day"},
    "month": {"requests": "requests_per_month", "tokens": "tokens_per_month", "cost": "cost_per_month"},
}
UNLIMITED: Final[Mapping[Meter, int]] = {"rpm": 1_000_000, "tpm": 1_000_000_000}
"""Limits from which on there is none: as much as one gateway can serve anyway. They are the shipped ones."""


@dataclass(frozen=True, slots=True)
class Account:
    """What is counted together, with its limits of now. Money is in millionths of the unit of the prices."""

    scope: Scope
    tenant: str
    """Empty for a model, which is one for all tenants."""
    name: str
    """The person's id, or the name of the role."""
    model: str
    """The model that alone is counted; empty for all together."""
    limits: Mapping[Meter, int]

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Return what tells it from every other account."""
        return self.scope, self.tenant, self.name, self.model

    @property
    def is_limited(self) -> bool:
        """Whether anything can be refused by its limits."""
        return any(meter not in UNLIMITED or most < UNLIMITED[meter] for meter, most in self.limits.items())

    def budgets(self, window: Window) -> dict[str, int]:
        """Return its budgets of a day or a month, by what they are of: `requests`, `tokens`, `cost`."""
        return {unit: self.limits[meter] for unit, meter in BUDGETS[window].items() if meter in self.limits}


@dataclass(frozen=True, slots=True)
class Amount:
    """What a request needs, or used: tokens, and money in millionths of the unit of the prices."""

    tokens: int
    cost: int = 0


@dataclass(frozen=True, slots=True)
class Allowance:
    """One limit at one moment: how much is left of it, and in how many seconds nothing of it will be used
    any more.
    """

    limit: int
    remaining: int
    reset_s: float
    scope: Scope = "person"
    meter: Meter = "rpm"


@dataclass(frozen=True, slots=True)
class Counted:
    """A request that was counted: in which accounts, when by the counter's clock (epoch seconds or any
    other), and what is left after it.
    """

    accounts: tuple[Account, ...]
    at: int
    allowances: tuple[Allowance, ...]
    lease: str = ""
    """Under which it counts as running at the same time as others; empty where nothing limits that."""
    is_local: bool = field(default=True, kw_only=True)
    """Whether only this process counted it."""


@dataclass(frozen=True, slots=True)
class Exhausted:
    """A request that would pass a limit, and was not counted. `after_s` is when it would not."""

    refused: Allowance
    asked: int
    after_s: float
    allowances: tuple[Allowance, ...]
    model: str = ""
    """The model whose requests alone the limit is of; empty for all."""


class QuotaCounter(Protocol):
    """Counts what was spent in the last minute, within this day and this month, and what runs now."""

    async def reserve(self, accounts: Sequence[Account], amount: Amount) -> Counted | Exhausted:
        """Count one request and what it needs in every account, unless a limit of any would be passed; then
        nothing must be counted in any.

        Of any number of calls at once as many must be counted as the limits allow, and no more. A budget of
        tokens or money is passed once it is spent: the request that spends the last of it may overdraw it.
        Raises `QuotaUnavailable` where nothing can be counted, and `StateUnavailable` where what a budget has
        spent so far cannot be read.
        """
        ...

    async def correct(self, counted: Counted, *, by: Amount) -> None:
        """Count more of an earlier request, from now on, or less, from when it was counted. Never below
        nothing. Must not keep the caller waiting for the network, and never raises.
        """
        ...

    async def release(self, counted: Counted) -> None:
        """Let the request no longer run. Must be called once when it has ended, however it did. Must not keep
        the caller waiting for the network, and never raises.
        """
        ...
