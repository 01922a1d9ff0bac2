"""What every quota counter must do, to be tested on each: a counter, its clock, and shorthands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from regate_orchestrator.ports import (
    Account,
    Allowance,
    Amount,
    Counted,
    Exhausted,
    Meter,
    QuotaCounter,
    Scope,
)

PLENTY = 900_000
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC).timestamp()


@dataclass
class Time:
    """A clock that the test sets."""

    now: float = NOON + 0.25

    def __call__(self) -> float:
        return self.now


class Clock(Protocol):
    """The time of a counter."""

    def pass_(self, seconds: float) -> None:
        """Let so much time pass."""

    def now(self) -> float:
        """The time, in epoch seconds."""


async def _nothing() -> None: ...


@dataclass
class Place:
    """A counter under test. `told` returns once everything that it was told has been counted."""

    counter: QuotaCounter
    clock: Clock
    told: Callable[[], Awaitable[None]] = field(default=_nothing)

    async def reserve(self, *accounts: Account, tokens: int = 1, cost: int = 0) -> Counted | Exhausted:
        return await self.counter.reserve(accounts, Amount(tokens, cost))

    async def counted(self, *accounts: Account, tokens: int = 1, cost: int = 0) -> Counted:
        found = await self.reserve(*accounts, tokens=tokens, cost=cost)
        assert isinstance(found, Counted), found
        return found

    async def refused(self, *accounts: Account, tokens: int = 1, cost: int = 0) -> Exhausted:
        found = await self.reserve(*accounts, tokens=tokens, cost=cost)
        assert isinstance(found, Exhausted), found
        return found

    async def correct(self, counted: Counted, *, tokens: int = 0, cost: int = 0) -> None:
        await self.counter.correct(counted, by=Amount(tokens, cost))
        await self.told()

    async def release(self, counted: Counted) -> None:
        await self.counter.release(counted)
        await self.told()


def person(name: str = "ann", tenant: str = "acme", model: str = "", **limits: int) -> Account:
    """A person, who has plenty but for these limits."""
    return account("person", name, tenant, model, **({"rpm": PLENTY, "tpm": PLENTY} | limits))


def account(scope: Scope, name: str = "", tenant: str = "acme", model: str = "", **limits: int) -> Account:
    said: dict[Meter, int] = limits  # type: ignore[assignment]  # spelt by the test
    return Account(scope, tenant, name, model, said)


def left(found: Counted | Exhausted, meter: str = "rpm", scope: str = "person") -> Allowance:
    """What is left of this limit."""
    (one,) = [one for one in found.allowances if (one.meter, one.scope) == (meter, scope)]
    return one
