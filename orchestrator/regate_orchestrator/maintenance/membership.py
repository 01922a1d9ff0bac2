"""Membership: which gateways share the state store, as far as each can know. Who does not renew its presence
is gone, or taken for gone.

What a gateway has in flight (responses, the locks that they hold, idempotency keys) is its own while it is
present. Once it is gone, any other ends it. A gateway that was only taken for gone may go on; what was ended
in its place stays so (ADR 0009).
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from regate_orchestrator.errors import GatewayStopped, RegateError
from regate_orchestrator.ports import MembershipState
from regate_orchestrator.values import GatewayId, JsonObject

_log = logging.getLogger("regate.presence")
_INTERRUPTED: Final[JsonObject] = {"code": GatewayStopped.code, "message": GatewayStopped.default_message}


class Membership:
    """This gateway's presence, from `begin` to `end`. `work` must run between the two."""

    def __init__(self, state: MembershipState, *, lease_s: int = 60, renew_s: float = 15.0) -> None:
        self._state = state
        self._lease_s = lease_s
        self._renew_s = renew_s

    async def begin(self, *, before: GatewayId | None = None) -> int:
        """Be present, end what was interrupted, and return how many responses. The gateway `before` this one
        must have ended; where the state store is not shared, all others have.
        """
        await self._state.heartbeat(ttl_s=self._lease_s)
        if not self._state.is_shared:
            await self._state.forget_others()
        elif before is not None and before != self._state.gateway:
            await self._state.forget(before)
        return await self.end_interrupted()

    async def work(self) -> None:
        """Stay present until cancelled. While the state store does not answer it is asked again, and
        others may take this gateway for gone.
        """
        while True:
            await asyncio.sleep(self._renew_s)
            try:
                await self._state.heartbeat(ttl_s=self._lease_s)
            except RegateError as error:
                _log.warning("membership_not_renewed", extra={"cause": getattr(error, "detail", "")})

    async def end(self) -> None:
        """Be gone, so that others need not wait. Must come after all that this gateway had in flight
        has ended.
        """
        try:
            await self._state.leave()
        except RegateError as error:
            _log.warning("membership_not_ended", extra={"cause": getattr(error, "detail", "")})

    async def end_interrupted(self) -> int:
        """End what gateways that are gone had in flight; return how many responses. A collector."""
        return await self._state.end_interrupted(error=_INTERRUPTED)
