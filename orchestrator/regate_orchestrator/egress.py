"""Egress: whether the gateway may connect to a place outside for a caller. Who connects is
`regate_adapters.egress`, which asks here before it resolves a name: a lookup alone would tell the name's
owner something.
"""

from __future__ import annotations

from dataclasses import dataclass

from regate_orchestrator.authz.decisions import Context, Point, Question
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.errors import EgressDenied
from regate_orchestrator.ports import Purpose
from regate_orchestrator.values import JsonObject


@dataclass(frozen=True, slots=True)
class Destination:
    """A place outside, as policies see it: never its path or query, which may hold secrets."""

    purpose: Purpose
    scheme: str
    host: str
    port: int
    private: bool = False
    """Whether it is known to be in a private network that the operator listed."""
    operator_named: bool = False
    """Whether it stands in the configuration, rather than in what a client or a model said."""

    def view(self) -> JsonObject:
        """Return the input of `regate.egress` for it."""
        return {
            "purpose": self.purpose,
            "scheme": self.scheme,
            "host": self.host,
            "port": self.port,
            "private": self.private,
            "operator_named": self.operator_named,
        }


@dataclass(frozen=True, slots=True)
class EgressDecisions:
    """Decides egress, each connection anew."""

    enforcer: Enforcer

    async def require(self, context: Context, destination: Destination) -> None:
        """Return once the connection is permitted and recorded. Raises `EgressDenied`."""
        question = Question(
            Point.EGRESS, "egress.connect", {"destination": destination.view()}, about=destination.host
        )
        await self.enforcer.require(context, question, otherwise=EgressDenied())

    async def record_refusal(self, context: Context, destination: Destination, cause: str) -> None:
        """Record that the gateway does not connect there whatever the policy says: for its port, an address
        that it leads to, or as it would be without TLS.
        """
        refused: JsonObject = {"kind": "egress", "refused": cause, "destination": destination.view()}
        await self.enforcer.record(context, "egress.connect", refused)
