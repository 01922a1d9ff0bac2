"""What gateways share beside their database: where quotas are counted, and notices. Without a Redis each
gateway counts and looks for itself, and says so once that matters.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from regate_adapters.notices.local import LocalNotices
from regate_adapters.quota.local import LocalQuotaCounter
from regate_gateway.composition.opening import Worker, starting
from regate_gateway.config.secret import secret_from_environment
from regate_gateway.config.settings import Settings
from regate_orchestrator.errors import RegateError, naming
from regate_orchestrator.metrics import Metrics
from regate_orchestrator.ports import MembershipState, Notices, QuotaCounter, StateStore
from regate_orchestrator.quota.metering import Quotas
from regate_orchestrator.quota.usage import UsageLog
from regate_orchestrator.values import Clock

_log = logging.getLogger("regate.gateway")
_LOOK_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Sharing:
    """What is shared, and what must run for it."""

    counter: QuotaCounter
    usage: UsageLog
    notices: Notices
    workers: tuple[Worker, ...]


def redis_url(settings: Settings) -> tuple[str, str]:
    """Return the setting that says where Redis is, and its address, which may hold a password. Raises
    `ConfigurationError` when the variable that holds it is not set.
    """
    if (variable := settings.redis.url_env) is not None:
        secret = secret_from_environment(variable, setting="redis.url_env")
        return f"redis.url_env ({variable})", secret.reveal()
    assert settings.redis.url is not None  # noqa: S101 — INVARIANT: asked only where there is one
    return "redis.url", settings.redis.url


def check_redis(settings: Settings) -> None:
    """Raise `ConfigurationError` for an address that cannot be one of Redis. Nothing is connected to."""
    from regate_adapters.redis import check_url

    setting, url = redis_url(settings)
    with naming(setting):
        check_url(url)


async def open_sharing(
    stack: AsyncExitStack, settings: Settings, state: StateStore, metrics: Metrics, clock: Clock
) -> Sharing:
    """Return what is shared, opened on the stack. A Redis that does not answer is no reason not to start.
    Raises `ConfigurationError`.
    """
    usage = UsageLog(state.usage, clock)
    stack.push_async_callback(usage.flush)  # after the last request has ended
    local = LocalQuotaCounter(calendar=clock, spent_so_far=usage.spent_so_far)
    if not settings.redis.is_used:
        return Sharing(local, usage, LocalNotices(), (usage.work,))
    from regate_adapters.notices.redis import RedisNotices
    from regate_adapters.quota.guarded import GuardedCounter
    from regate_adapters.quota.shared import RedisQuotaCounter
    from regate_adapters.redis import connected

    starting("connecting to Redis")
    setting, url = redis_url(settings)
    deadline_s = settings.redis.timeout_ms / 1000
    with naming(setting):
        redis = await stack.enter_async_context(connected(url, deadline_s=deadline_s))
    shared = RedisQuotaCounter(
        redis,
        prefix=settings.redis.prefix,
        deadline_s=deadline_s,
        spent_so_far=usage.spent_so_far,
        metrics=metrics,
    )
    stack.push_async_callback(shared.flush)
    fleet = _Fleet(state.membership)
    counter = GuardedCounter(
        shared, local, on_failure=settings.quota.on_failure, metrics=metrics, gateways=lambda: fleet.size
    )
    counting = [fleet.work] if settings.quota.on_failure == "local" and state.membership.is_shared else []
    notices = RedisNotices(redis, prefix=settings.redis.prefix, deadline_s=deadline_s, metrics=metrics)
    return Sharing(counter, usage, notices, (usage.work, shared.work, notices.work, *counting))


class _Fleet:
    """How many gateways there are."""

    def __init__(self, membership: MembershipState) -> None:
        self._membership = membership
        self.size = 1

    async def work(self) -> None:
        """Look again and again, until cancelled. While the database is away it is as many as before."""
        while True:
            try:
                self.size = 1 + await self._membership.others_present()
            except RegateError as error:
                _log.warning("gateways_not_counted", extra={"cause": getattr(error, "detail", "")})
            await asyncio.sleep(_LOOK_SECONDS)


async def warn_when_not_shared(quotas: Quotas, membership: MembershipState) -> None:
    """Warn once when limits hold and other gateways count for themselves too; run until then."""
    while True:
        if quotas.limited:
            try:
                if others := await membership.others_present():
                    detail = (
                        "there is no redis, so each gateway counts quotas for itself and grants the whole of "
                        "every limit"
                    )
                    _log.warning("quotas_not_shared", extra={"count": others, "detail": detail})
                    return
            except RegateError:
                pass  # it is looked again
        await asyncio.sleep(_LOOK_SECONDS)
