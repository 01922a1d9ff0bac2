"""The guard of egress: nothing goes out but through here. An address is read strictly, decided, resolved
once, and each address that it has is checked; then a transport leads there (`transport.py`).

The policy is asked before a name is looked up, as a lookup alone tells its owner something. It is asked again
where the name turns out to lead into a private network.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NoReturn

from regate_adapters.egress.addresses import Address, Network, Reach, Reachable
from regate_adapters.egress.place import LetOut
from regate_adapters.egress.resolving import Resolver
from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.documents.urls import Url, read_url
from regate_orchestrator.egress import Destination, EgressDecisions
from regate_orchestrator.errors import EgressDenied, FetchFailed
from regate_orchestrator.metrics import Metrics
from regate_orchestrator.ports import Purpose

_ENCRYPTED: Final = frozenset({"mcp"})
"""Purposes for which credentials are sent: without TLS only within private networks."""


@dataclass(frozen=True, slots=True)
class EgressLimits:
    """What the operator permits of the network, whatever policies say, and how long an attempt may take."""

    private: tuple[Network, ...] = ()
    ports: frozenset[int] = frozenset({443})
    """The ports that clients and models may name; those of the configuration are the operator's own words."""
    resolve_s: float = 5.0
    ca_file: Path | None = None


class EgressGuard:
    """Lets out to what policies and the operator's networks permit."""

    def __init__(
        self, decisions: EgressDecisions, resolver: Resolver, limits: EgressLimits, metrics: Metrics
    ) -> None:
        self._decisions = decisions
        self._resolver = resolver
        self._limits = limits
        self._reachable = Reachable(limits.private)
        self._tls: ssl.SSLContext | None = None
        self._outcomes = metrics.counter(
            "regate_egress",
            "Attempts to connect to a place that a client, a model or the operator named.",
            ("purpose", "outcome"),
        )

    async def require(
        self, context: Context, url: str, purpose: Purpose, *, operator_named: bool = False
    ) -> None:
        """Return once the policy permits the connection, for what a connection of before has brought. Raises
        as `let_out` does. Nothing is looked up.
        """
        to = read_url(url)
        await self._decisions.require(
            context, Destination(purpose, to.scheme, to.host, to.port, operator_named=operator_named)
        )

    async def let_out(
        self, context: Context, url: str, purpose: Purpose, *, operator_named: bool = False
    ) -> LetOut:
        """Return the place with its checked addresses, once it is decided and recorded.

        Raises `InvalidRequest`, `EgressDenied`, and `FetchFailed` for a name that has no address.
        """
        to = read_url(url)
        asked = Destination(purpose, to.scheme, to.host, to.port, operator_named=operator_named)
        try:
            found = await self._decided(context, to, asked)
        except (EgressDenied, FetchFailed) as error:
            self._outcomes.add(purpose, "denied" if isinstance(error, EgressDenied) else "not_found")
            raise
        self._outcomes.add(purpose, "let_out")
        return LetOut(to, tuple(found), self._context())

    async def _decided(self, context: Context, to: Url, asked: Destination) -> Sequence[Address]:
        if not asked.operator_named and to.port not in self._limits.ports:
            await self._refuse(context, asked, "port")
        if to.address is not None:
            reach = await self._reach(context, asked, [to.address])
            await self._decisions.require(context, replace(asked, private=reach is Reach.PRIVATE))
            return [to.address]
        await self._decisions.require(context, asked)
        found = await self._resolved(to)
        if await self._reach(context, asked, found) is Reach.PRIVATE:
            await self._decisions.require(context, replace(asked, private=True))
        return found

    async def _resolved(self, to: Url) -> Sequence[Address]:
        try:
            async with asyncio.timeout(self._limits.resolve_s):
                found = await self._resolver.addresses(to.host, to.port)
        except (OSError, UnicodeError):  # a timeout is an OSError
            found = ()
        if not found:
            raise FetchFailed("The address cannot be used: its host cannot be found.")
        return found

    async def _reach(self, context: Context, asked: Destination, addresses: Sequence[Address]) -> Reach:
        """Return what all of the addresses are. Refuses them all when any may not be connected to."""
        reaches = {self._reachable.of(address) for address in addresses}
        if Reach.NONE in reaches:
            await self._refuse(context, asked, "address")
        if asked.scheme == "http" and asked.purpose in _ENCRYPTED and Reach.PUBLIC in reaches:
            await self._refuse(context, asked, "without_tls")
        return Reach.PRIVATE if Reach.PRIVATE in reaches else Reach.PUBLIC

    async def _refuse(self, context: Context, asked: Destination, cause: str) -> NoReturn:
        """Record that the gateway itself refuses, whatever the policy says, and raise `EgressDenied`."""
        await self._decisions.record_refusal(context, asked, cause)
        raise EgressDenied

    def _context(self) -> ssl.SSLContext:
        """Return the TLS context, made at its first use."""
        if self._tls is None:
            self._tls = ssl.create_default_context()
            if self._limits.ca_file is not None:
                self._tls.load_verify_locations(self._limits.ca_file)
        return self._tls
