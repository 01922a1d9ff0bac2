"""Requests to services that the configuration names: each let out anew, under a deadline and a limit."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Final

import httpx2

from regate_adapters.egress.channels import open_channel
from regate_adapters.egress.guard import EgressGuard
from regate_adapters.egress.transport import AnswerTooLarge, PinnedTransport, read_whole
from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.errors import FetchFailed, TooLarge
from regate_orchestrator.ports import Channel, Fetched, Outgoing, Purpose

_HEADERS: Final = {"User-Agent": "Regate", "Accept": "application/json", "Connection": "close"}


class GuardedServiceClient:
    """Sends requests through the guard. Neither cookie nor credential is kept between two of them."""

    def __init__(self, guard: EgressGuard) -> None:
        self._guard = guard

    async def send(
        self, context: Context, request: Outgoing, purpose: Purpose, *, limit_bytes: int, deadline_s: float
    ) -> Fetched:
        """Return what the service answered; see the port (`ports/egress.py`)."""
        try:
            async with asyncio.timeout(deadline_s):
                return await self._sent(context, request, purpose, limit_bytes, deadline_s)
        except AnswerTooLarge:
            raise TooLarge(f"The service answered with more than {limit_bytes} bytes.") from None
        except TimeoutError:
            raise FetchFailed(f"The service did not answer within {deadline_s:g} seconds.") from None
        except httpx2.HTTPError as error:
            raise FetchFailed(f"The service could not be asked: {error}.") from None

    def channel(
        self, context: Context, request: Outgoing, purpose: Purpose, *, limit_bytes: int, deadline_s: float
    ) -> AbstractAsyncContextManager[Channel]:
        """Yield a WebSocket; see the port."""
        return open_channel(self._guard, context, request, purpose, limit_bytes, deadline_s)

    async def _sent(
        self, context: Context, request: Outgoing, purpose: Purpose, limit_bytes: int, wait_s: float
    ) -> Fetched:
        place = await self._guard.let_out(context, request.url, purpose, operator_named=True)
        transport = PinnedTransport(place, limit_bytes=limit_bytes)
        async with (
            httpx2.AsyncClient(transport=transport, trust_env=False, timeout=wait_s) as client,
            client.stream(
                request.method,
                str(place.url),
                headers={**_HEADERS, **request.headers},
                content=request.body,
            ) as answer,
        ):
            if not 200 <= answer.status_code < 300:
                raise FetchFailed(f"The service answered with status {answer.status_code}.")
            return await read_whole(answer, str(place.url))
