"""What goes out to places that clients, models and the configuration name: the guard, and what fetches
through it. httpx is imported with the first connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regate_adapters.egress.guard import EgressGuard, EgressLimits
from regate_adapters.egress.resolving import SystemResolver
from regate_gateway.composition.decisions import Decisions
from regate_gateway.config.egress_settings import Egress
from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.egress import EgressDecisions
from regate_orchestrator.metrics import Metrics
from regate_orchestrator.ports import Fetched, Fetcher, Purpose

if TYPE_CHECKING:
    import httpx2


def make_guard(settings: Egress, decisions: Decisions, metrics: Metrics) -> EgressGuard:
    """Return the one guard of the gateway."""
    limits = EgressLimits(
        private=settings.private_networks, ports=frozenset(settings.ports), ca_file=settings.ca_file
    )
    return EgressGuard(EgressDecisions(decisions.enforcer), SystemResolver(), limits, metrics)


class McpWayOut:
    """The way out to MCP servers, through the guard."""

    def __init__(self, guard: EgressGuard) -> None:
        self._guard = guard

    async def require(self, context: Context, url: str, *, operator_named: bool) -> None:
        """Return once the connection is permitted."""
        await self._guard.require(context, url, "mcp", operator_named=operator_named)

    async def transport(
        self, context: Context, url: str, *, operator_named: bool, limit_bytes: int
    ) -> tuple[httpx2.AsyncBaseTransport, str]:
        """Return a transport that leads there and nowhere else, and the address as it was read."""
        from regate_adapters.egress.transport import PinnedTransport

        place = await self._guard.let_out(context, url, "mcp", operator_named=operator_named)
        return PinnedTransport(place, limit_bytes=limit_bytes), str(place.url)


class LazyFetcher:
    """Fetches through the guard, with a client that is made at the first fetch."""

    def __init__(self, settings: Egress, guard: EgressGuard) -> None:
        self._settings = settings
        self._guard = guard
        self._fetcher: Fetcher | None = None

    async def fetch(self, context: Context, url: str, purpose: Purpose, *, limit_bytes: int) -> Fetched:
        """Return what the address leads to; see the port."""
        if self._fetcher is None:
            from regate_adapters.egress.fetching import FetchLimits, GuardedFetcher

            limits = FetchLimits(
                self._settings.deadline_s, self._settings.max_bytes, self._settings.redirects
            )
            self._fetcher = GuardedFetcher(self._guard, limits)
        return await self._fetcher.fetch(context, url, purpose, limit_bytes=limit_bytes)
