"""Which gateways use the state store at the same time."""

from __future__ import annotations

from typing import Protocol

from regate_orchestrator.values import GatewayId, JsonObject


class MembershipState(Protocol):
    """Knows which gateways are present, and ends what those that are gone had in flight."""

    @property
    def is_shared(self) -> bool:
        """Whether other gateways may use this database at the same time."""
        ...

    @property
    def gateway(self) -> GatewayId:
        """Who this gateway is."""
        ...

    async def heartbeat(self, *, ttl_s: int) -> None:
        """Be present for so long from now, whether this gateway was until now or not."""
        ...

    async def others_present(self) -> int:
        """Return how many other gateways are present."""
        ...

    async def leave(self) -> None:
        """Be present no longer. Must be idempotent."""
        ...

    async def forget_others(self) -> None:
        """Let no gateway but this one be present. Must be called at start and only where no other can be."""
        ...

    async def forget(self, gateway: GatewayId) -> None:
        """Let that gateway be present no longer. Must be called only where it has certainly ended."""
        ...

    async def end_interrupted(self, *, error: JsonObject) -> int:
        """End what is in flight, of all tenants, at gateways that are not present; return how many responses.
        In one transaction.

        Responses queued or in progress are marked as failed with this error, and must never be anything else:
        they neither stay in progress nor are reused as history. The log of events that a background response
        has must end with its `response.failed`. Locks on conversations are released, and keys of creates that
        were not finished are free again. Nothing of this gateway may be ended.
        """
        ...
