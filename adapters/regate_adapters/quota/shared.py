"""`RedisQuotaCounter`: what was spent, in a Redis that gateways share, by its own clock.

A request is counted by one script (`scripts/reserve.lua`): in all of its accounts or in none. What is told
later (corrections, ends) is sent in the background. What runs at the same time is held by leases, which this
gateway renews: those of one that was killed expire.

The keys hold no names, only their digests. All carry one hash tag, so that a script may touch them together.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Final, cast

import orjson
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from regate_adapters.quota.local import SpentSoFar
from regate_adapters.redis import FAILURES, cause, let_go_of_idle
from regate_orchestrator.errors import QuotaUnavailable
from regate_orchestrator.metrics import Metrics
from regate_orchestrator.ports import BUDGETS, Account, Allowance, Amount, Counted, Exhausted, Meter
from regate_orchestrator.values import JsonObject

_log = logging.getLogger("regate.quota")
_LEASE_SECONDS: Final = 30.0
_RENEWALS: Final = 3
"""How often a lease is renewed before it would expire."""
_MAX_TOLD: Final = 10_000
_AT_ONCE: Final = 200
_SEEDINGS: Final = 3


@dataclass(frozen=True, slots=True)
class _Script:
    text: str
    digest: str

    @classmethod
    def named(cls, name: str) -> _Script:
        folder = files("regate_adapters.quota") / "scripts"
        text = "\n".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in ("common", name))
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


@dataclass(slots=True)
class _Told:
    """What was told of a request since it was sent last."""

    counted: Counted
    tokens: int = 0
    cost: int = 0
    has_ended: bool = False


@dataclass(slots=True)
class _Scripts:
    reserve: _Script = field(default_factory=lambda: _Script.named("reserve"))
    settle: _Script = field(default_factory=lambda: _Script.named("settle"))
    renew: _Script = field(default_factory=lambda: _Script.named("renew"))


class RedisQuotaCounter:
    """Counts in Redis. `work` must run for as long as it is used: it sends what was told, and renews leases.

    `ahead` is how many seconds later than Redis's clock it shall be, for tests of time that passes.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        prefix: str,
        deadline_s: float,
        spent_so_far: SpentSoFar | None = None,
        metrics: Metrics | None = None,
        lease_s: float = _LEASE_SECONDS,
        ahead: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._redis = redis
        self._prefix = f"{{{prefix}:quota}}"
        self._deadline_s = deadline_s
        self._spent_so_far = spent_so_far
        self._lease_s = lease_s
        self._ahead = ahead
        self._scripts = _Scripts()
        self._told: dict[str, _Told] = {}
        self._running: dict[str, Counted] = {}
        self._news = asyncio.Event()
        self._lost = (metrics or Metrics()).counter(
            "regate_quota_corrections_lost", "Corrections of counted requests that did not reach Redis."
        )

    async def reserve(self, accounts: Sequence[Account], amount: Amount) -> Counted | Exhausted:
        """Count a request unless a limit would be passed. See `ports.QuotaCounter.reserve`."""
        lease, views = secrets.token_hex(12), [_view(account) for account in accounts]
        keys = self._keys(accounts)
        for _ in range(_SEEDINGS):
            told = orjson.dumps(views)
            wants_seeds = "0" if self._spent_so_far is None else "1"
            args = (lease, amount.tokens, amount.cost, told, wants_seeds)
            answer = await self._reserved(lease, accounts, keys, args)
            if "unknown" not in answer:
                return self._read(answer, accounts, lease)
            await self._seed(views, accounts, answer["unknown"])
        raise QuotaUnavailable("the windows of budgets changed while they were looked up")

    async def correct(self, counted: Counted, *, by: Amount) -> None:
        """Have this sent soon. See `ports.QuotaCounter.correct`."""
        told = self._tell(counted)
        told.tokens += by.tokens
        told.cost += by.cost

    async def release(self, counted: Counted) -> None:
        """Have this sent soon. See `ports.QuotaCounter.release`."""
        self._running.pop(counted.lease, None)
        self._tell(counted).has_ended = True

    async def work(self) -> None:
        """Send what is told, and renew the leases of what runs, until cancelled. `flush` sends the rest."""
        loop = asyncio.get_running_loop()
        every_s = self._lease_s / _RENEWALS
        due = loop.time() + every_s
        while True:
            try:
                async with asyncio.timeout_at(due):
                    await self._news.wait()
            except TimeoutError:
                due = loop.time() + every_s
                await self._renew()
            await self.flush()

    async def flush(self) -> None:
        """Send everything that was told so far. What cannot be sent is given up, as whether it was counted is
        not known: a correction must not count twice.
        """
        self._news.clear()
        while self._told:
            part = [self._told.pop(lease) for lease in list(self._told)[:_AT_ONCE]]
            settled = [one for one in part if one.tokens or one.cost or one.has_ended]
            try:
                await self._send(self._scripts.settle, [self._settlement(one) for one in settled])
            except FAILURES as error:
                await let_go_of_idle(self._redis, error, within_s=self._deadline_s)
                self._lost.add(count=len(settled))
                _log.warning("quota_corrections_lost", extra={"count": len(settled), "cause": cause(error)})

    async def _renew(self) -> None:
        running = list(self._running.values())
        for start in range(0, len(running), _AT_ONCE):
            part = running[start : start + _AT_ONCE]
            pairs = [
                (account, counted.lease)
                for counted in part
                for account in counted.accounts
                if "concurrent" in account.limits
            ]
            keys = self._keys([account for account, _ in pairs])
            try:
                await self._send(self._scripts.renew, [(keys, [lease for _, lease in pairs])])
            except FAILURES as error:
                _log.warning("quota_leases_not_renewed", extra={"count": len(part), "cause": cause(error)})
                return

    def _tell(self, counted: Counted) -> _Told:
        told = self._told.get(counted.lease)
        if told is None:
            told = self._told[counted.lease] = _Told(counted)
            if len(self._told) > _MAX_TOLD:  # Redis is away for long: what is oldest has expired there anyway
                del self._told[next(iter(self._told))]
                self._lost.add()
        self._news.set()
        return told

    def _settlement(self, told: _Told) -> tuple[list[str], list[Any]]:
        counted = told.counted
        minutes = "".join("1" if _has_minute(account) else "0" for account in counted.accounts)
        ended = "1" if told.has_ended else "0"
        return self._keys(counted.accounts), [
            counted.lease, told.tokens, told.cost, counted.at, ended, minutes
        ]  # fmt: skip

    async def _reserved(
        self, lease: str, accounts: Sequence[Account], keys: list[str], args: Sequence[Any]
    ) -> dict[str, Any]:
        """Return the script's answer. Where none came it may have been counted all the same: its lease is
        given back.
        """
        try:
            async with asyncio.timeout(self._deadline_s):
                answer = await self._evaluated(self._scripts.reserve, keys, args)
            return cast("dict[str, Any]", orjson.loads(answer))
        except FAILURES as error:
            self._give_back(lease, accounts)
            await let_go_of_idle(self._redis, error, within_s=self._deadline_s)
            raise QuotaUnavailable(cause(error)) from error
        except asyncio.CancelledError:
            self._give_back(lease, accounts)
            raise

    def _give_back(self, lease: str, accounts: Sequence[Account]) -> None:
        if any("concurrent" in account.limits for account in accounts):
            self._tell(Counted(tuple(accounts), 0, (), lease)).has_ended = True

    async def _evaluated(self, script: _Script, keys: list[str], args: Sequence[Any]) -> Any:
        whole = (*keys, *self._common(), *args)
        try:
            return await self._redis.evalsha(script.digest, len(keys), *whole)
        except NoScriptError:
            return await self._redis.eval(script.text, len(keys), *whole)

    async def _send(self, script: _Script, calls: Sequence[tuple[list[str], list[Any]]]) -> None:
        """Carry out all of these at once."""
        if not calls:
            return
        async with asyncio.timeout(self._deadline_s):
            left = list(calls)
            for evaluate, what in (("evalsha", script.digest), ("eval", script.text)):
                pipeline = self._redis.pipeline(transaction=False)
                for keys, args in left:
                    getattr(pipeline, evaluate)(what, len(keys), *keys, *self._common(), *args)
                answers = await pipeline.execute(raise_on_error=False)
                failed = [one for one in answers if isinstance(one, Exception)]
                if not failed:
                    return
                if not all(isinstance(one, NoScriptError) for one in failed):
                    raise failed[0]
                left = [
                    call for call, one in zip(left, answers, strict=True) if isinstance(one, NoScriptError)
                ]

    async def _seed(
        self, views: list[JsonObject], accounts: Sequence[Account], unknown: Sequence[Sequence[Any]]
    ) -> None:
        assert self._spent_so_far is not None  # noqa: S101 — asked for only where it is given
        for index, window, number in unknown:
            spent = await self._spent_so_far(accounts[int(index) - 1], window, int(number))
            view = cast("dict[str, Any]", views[int(index) - 1])
            view["seeds"] = {**view.get("seeds", {}), window: {**spent, "number": int(number)}}

    def _read(self, answer: dict[str, Any], accounts: Sequence[Account], lease: str) -> Counted | Exhausted:
        at, left = int(answer["at"]), []
        by_meter: dict[tuple[int, str], Allowance] = {}
        for index, (account, used) in enumerate(zip(accounts, answer["used"], strict=True)):
            for meter in account.limits:
                spent, reset_ms = used[meter]
                allowance = _allowance(account, meter, int(spent), reset_ms)
                by_meter[index, meter] = allowance
                left.append(allowance)
        if answer["refused"]:
            index, meter, asked, after_ms = max(answer["refused"], key=lambda one: one[3])
            refused = by_meter[int(index) - 1, meter]
            model = accounts[int(index) - 1].model
            return Exhausted(refused, int(asked), after_ms / 1000, tuple(left), model)
        counted = Counted(tuple(accounts), at, tuple(left), lease, is_local=False)
        if any("concurrent" in account.limits for account in accounts):
            self._running[lease] = counted
        return counted

    def _common(self) -> tuple[int, int]:
        return round(self._ahead() * 1000), round(self._lease_s * 1000)

    def _keys(self, accounts: Sequence[Account]) -> list[str]:
        keys = []
        for account in accounts:
            digest = hashlib.sha256(orjson.dumps(account.key)).hexdigest()[:40]
            keys += [f"{self._prefix}:{kind}:{digest}" for kind in ("minute", "runs", "day", "month")]
        return keys


def _has_minute(account: Account) -> bool:
    return "rpm" in account.limits or "tpm" in account.limits


def _view(account: Account) -> JsonObject:
    """Return the account as the scripts see it."""
    limits = {
        meter: account.limits[meter] for meter in ("rpm", "tpm", "concurrent") if meter in account.limits
    }
    budgets = {window: account.budgets(window) for window in BUDGETS if account.budgets(window)}
    return cast("JsonObject", {**limits, **budgets})


def _allowance(account: Account, meter: Meter, used: int, reset_ms: float) -> Allowance:
    most = account.limits[meter]
    return Allowance(most, max(0, most - used), reset_ms / 1000, account.scope, meter)
