"""Counting what callers spend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from regate_orchestrator.principal import Principal


@dataclass(frozen=True, slots=True)
class Allowance:
    """One limit of a caller at one moment: how much is left of it, and in how many seconds nothing of
    it will be used any more.
    """

    limit: int
    remaining: int
    reset_s: float


@dataclass(frozen=True, slots=True)
class Counted:
    """A request that was counted, for whom and when, and what is left after it."""

    tenant: str
    subject: str
    at: int
    requests: Allowance
    tokens: Allowance


@dataclass(frozen=True, slots=True)
class Exhausted:
    """A request that would pass a limit, and was not counted. `after_s` is when it would not."""

    limit: Literal["requests", "tokens"]
    asked: int
    after_s: float
    requests: Allowance
    tokens: Allowance


class QuotaCounter(Protocol):
    """Counts what each person, a subject within a tenant, has spent in the last minute. Holds no
    limits: each call brings those of now.
    """

    async def reserve(self, principal: Principal, *, rpm: int, tpm: int, tokens: int) -> Counted | Exhausted:
        """Count one request and its tokens, unless either would pass its limit; then nothing must be counted.

        Of any number of calls at once as many must be counted as the limits allow, and no more.
        """
        ...

    async def correct(self, counted: Counted, *, by: int) -> None:
        """Count more tokens of an earlier request, from now on, or fewer, from when it was counted.
        Never below nothing.
        """
        ...
