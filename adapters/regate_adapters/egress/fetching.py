"""Plain fetches: one GET, its redirects each let out anew, under a deadline and a limit in all."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final
from urllib.parse import urljoin

import httpx2

from regate_adapters.egress.guard import EgressGuard
from regate_adapters.egress.transport import AnswerTooLarge, PinnedTransport, read_whole
from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.errors import FetchFailed, TooLarge
from regate_orchestrator.places import Places
from regate_orchestrator.ports import Fetched, Purpose

_AT_ONCE: Final = 16
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_HEADERS: Final = {"User-Agent": "Regate", "Accept": "*/*", "Connection": "close"}


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What bounds one fetch, redirects included."""

    deadline_s: float = 20.0
    max_bytes: int = 20 * 1024 * 1024
    redirects: int = 3


class GuardedFetcher:
    """Fetches through the guard, a few at once. Neither cookie nor credential is kept between two fetches."""

    def __init__(self, guard: EgressGuard, limits: FetchLimits) -> None:
        self._guard = guard
        self._limits = limits
        self._places = Places(_AT_ONCE)

    async def fetch(self, context: Context, url: str, purpose: Purpose, *, limit_bytes: int) -> Fetched:
        """Return what the address leads to; see the port (`ports/egress.py`)."""
        limit_bytes = min(limit_bytes, self._limits.max_bytes)
        try:
            async with (
                asyncio.timeout(self._limits.deadline_s),
                self._places.in_turn(context.principal.tenant),
            ):
                return await self._followed(context, url, purpose, limit_bytes)
        except AnswerTooLarge:
            raise TooLarge(
                f"What the address leads to has more than the {limit_bytes} bytes that are fetched."
            ) from None
        except TimeoutError:
            raise FetchFailed(
                f"The address could not be fetched within {self._limits.deadline_s:g} seconds."
            ) from None
        except httpx2.HTTPError as error:
            raise FetchFailed(f"The address could not be fetched: {error}.") from None

    async def _followed(self, context: Context, url: str, purpose: Purpose, limit_bytes: int) -> Fetched:
        for _ in range(self._limits.redirects + 1):
            found = await self._once(context, url, purpose, limit_bytes)
            if isinstance(found, Fetched):
                return found
            url = found
        raise FetchFailed("The address could not be fetched: it redirects too often.")

    async def _once(self, context: Context, url: str, purpose: Purpose, limit_bytes: int) -> Fetched | str:
        """Return what is there, or where it is instead."""
        place = await self._guard.let_out(context, url, purpose)
        at = str(place.url)
        transport, wait_s = PinnedTransport(place, limit_bytes=limit_bytes), self._limits.deadline_s
        async with (
            httpx2.AsyncClient(transport=transport, trust_env=False, timeout=wait_s) as client,
            client.stream("GET", at, headers=_HEADERS) as answer,
        ):
            if answer.status_code in _REDIRECTS and "location" in answer.headers:
                return _beyond(at, answer.headers["location"])
            if answer.status_code != 200:
                raise FetchFailed(
                    f"The address could not be fetched: the server answered with status {answer.status_code}."
                )
            return await read_whole(answer, at)


def _beyond(at: str, location: str) -> str:
    """Return where a redirect leads. Raises `FetchFailed` for one that gives TLS up."""
    to = urljoin(at, location)
    if at.startswith("https:") and not to.lower().startswith("https:"):
        raise FetchFailed("The address could not be fetched: it redirects to one without TLS.")
    return to
