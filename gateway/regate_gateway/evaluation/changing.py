"""What is measured of canaries alone: recall where a filter permits few, and how soon a change counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from regate_gateway.evaluation.asking import Asker
from regate_gateway.evaluation.canaries import RANK, Canary, Planted
from regate_gateway.evaluation.figures import Filtered, Revoked
from regate_gateway.evaluation.measures import mean, percentile, recall
from regate_gateway.evaluation.probing import LeakCounter

PERCENTS: Final = (100.0, 10.0, 1.0, 0.1, 0.01)
_ASKED: Final = 20


async def filtered(
    asker: Asker, planted: Planted, modes: Sequence[str], counter: LeakCounter
) -> tuple[list[Filtered], list[str]]:
    """Return the recall under filters that permit these shares of each tenant's canaries, and which shares
    there are too few canaries for.
    """
    found, notes = [], []
    for percent in PERCENTS:
        most = max(len(planted.of(tenant)) for tenant in asker.members)
        if round(most * percent / 100) < 1:
            notes.append(
                f"Recall under a filter of {percent:g} % was not measured: it takes {100 / percent:,.0f} "
                f"canaries of a tenant, and there were {most:,} (--canaries)."
            )
            continue
        found += [await _under(asker, planted, percent, mode, counter) for mode in modes]
    return found, notes


async def _under(asker: Asker, planted: Planted, percent: float, mode: str, counter: LeakCounter) -> Filtered:
    asker.tell(f"asks for canaries of which a filter permits {percent:g} % ({mode})")
    scores, breaches, permitted, every = [], 0, 0, 0
    for tenant in asker.members:
        canaries = planted.of(tenant)
        count = round(len(canaries) * percent / 100)
        inside = {canary.file_id for canary in canaries[:count]}
        permitted, every = permitted + count, every + len(canaries)
        filters = {"type": "lt", "key": RANK, "value": count}
        for canary in [*canaries[:count][:_ASKED], *canaries[count:][:_ASKED]]:
            answer = await asker.ask(tenant, canary.store, canary.phrase, mode, filters)
            if canary.file_id in inside:
                scores.append(recall(answer.names, {canary.name}, 10))
            counter.judge("own", tenant, canary.phrase, mode, answer)
            breaches += sum(hit.file_id not in inside for hit in answer.hits)
    return Filtered(percent, mode, permitted, every, len(scores), mean(scores), breaches)


async def revoked(asker: Asker, planted: Planted, mode: str, changes: int, give_up_s: float) -> list[Revoked]:
    """Return how soon other attributes of canaries, and their removal, are in force. Those canaries are
    used up.
    """
    chosen = [canary for tenant in asker.members for canary in planted.of(tenant)[:changes]]
    changed, detached = _Changes(asker, mode, give_up_s), _Changes(asker, mode, give_up_s)
    for canary in chosen:
        asker.tell(f"takes back canaries of {canary.tenant}")
        member = asker.members[canary.tenant]
        place = ("vector_stores", canary.store, "files", canary.file_id)
        other = {"attributes": {RANK: -1 - canary.rank}}
        await changed.measure(
            canary,
            lambda member=member, place=place, other=other: member.call("POST", *place, body=other),  # type: ignore[misc]
            filters={"type": "eq", "key": RANK, "value": canary.rank},
        )
        await detached.measure(
            canary,
            lambda member=member, place=place: member.call("DELETE", *place),  # type: ignore[misc]
            filters=None,
        )
    return [changed.counted("attributes"), detached.counted("removal")]


class _Changes:
    """Changes after which a search finds a canary no more, with the time that each took to be in force."""

    def __init__(self, asker: Asker, mode: str, give_up_s: float) -> None:
        self._asker = asker
        self._mode = mode
        self._give_up_s = give_up_s
        self._answers: list[float] = []
        self._effects: list[float] = []
        self._late = self._never = 0

    async def measure(
        self, canary: Canary, change: Callable[[], Awaitable[Any]], *, filters: dict[str, Any] | None
    ) -> None:
        """Make the change, and search until the canary is found no more. Raises `Refused`."""
        if not await self._finds(canary, filters):
            return  # it is not found by what it is asked by, so its absence would say nothing
        began = time.perf_counter()
        await change()
        self._answers.append((time.perf_counter() - began) * 1000)
        try:
            async with asyncio.timeout(self._give_up_s):
                while await self._finds(canary, filters):
                    self._late += 1
        except TimeoutError:
            self._never += 1
            return
        self._effects.append((time.perf_counter() - began) * 1000)

    def counted(self, change: str) -> Revoked:
        """Return the figures."""
        return Revoked(
            change,
            self._mode,
            len(self._answers),
            answer_p50_ms=percentile(self._answers, 0.5),
            answer_p95_ms=percentile(self._answers, 0.95),
            effect_p50_ms=percentile(self._effects, 0.5),
            effect_p95_ms=percentile(self._effects, 0.95),
            late=self._late,
            never=self._never,
        )

    async def _finds(self, canary: Canary, filters: dict[str, Any] | None) -> bool:
        answer = await self._asker.ask(canary.tenant, canary.store, canary.phrase, self._mode, filters)
        return any(hit.file_id == canary.file_id for hit in answer.hits)
