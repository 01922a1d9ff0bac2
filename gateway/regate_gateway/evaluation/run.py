"""The measurement as a whole: what is asked in which order, and what the report says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import aiohttp

from regate_gateway.evaluation.asking import Asker, Ownership
from regate_gateway.evaluation.canaries import Planted, Tell, planted
from regate_gateway.evaluation.changing import filtered, revoked
from regate_gateway.evaluation.decisions import Scrape, decided, scrape
from regate_gateway.evaluation.figures import Latency, Report
from regate_gateway.evaluation.measures import percentile
from regate_gateway.evaluation.member import DEADLINE_SECONDS, Member, Refused
from regate_gateway.evaluation.probing import LeakCounter, probe, quality
from regate_gateway.evaluation.questions import Question
from regate_gateway.evaluation.target import Target


@dataclass(frozen=True, slots=True)
class Measurement:
    """What is to be measured: these questions, and so many canaries of each tenant, in these modes."""

    target: Target
    questions: Sequence[Question]
    origin: str
    modes: Sequence[str]
    canaries: int
    changes: int
    give_up_s: float

    async def run(self, tell: Tell) -> Report:
        """Return the report. Raises `Refused`, and `ConfigurationError` for a token that is not there."""
        tokens = {tenant: entry.token(tenant) for tenant, entry in self.target.tenants.items()}
        timeout = aiohttp.ClientTimeout(total=DEADLINE_SECONDS)
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
            members = {
                tenant: Member(session, self.target.url, tenant, token) for tenant, token in tokens.items()
            }
            there = Planted(is_shared=False)
            if self.canaries:
                there = await stack.enter_async_context(planted(members, self.canaries, tell))
            return await self._measured(session, members, there, tell)

    async def _measured(
        self, session: aiohttp.ClientSession, members: Mapping[str, Member], there: Planted, tell: Tell
    ) -> Report:
        report = Report(
            self.target.url,
            datetime.now(UTC).isoformat(timespec="seconds"),
            version("regate"),
            sorted(members),
            self.origin,
            self.canaries,
        )
        asker = Asker(members, tell)
        of_canaries = [canary.question for canary in there.canaries]
        questions = self.questions or of_canaries
        modes, report.notes = await asker.served(self.modes, [*questions, *of_canaries])
        if not modes:  # an answer without a search would pass for a good one
            raise Refused("nothing was measured. " + " ".join(report.notes))
        counter = LeakCounter(await Ownership.learned(members, self.questions, there.canaries))
        before = await _scraped(session, self.target.url, report)
        report.quality = await quality(asker, questions, modes, counter)
        if len(members) > 1:
            every = [*questions, *(of_canaries if self.questions else [])]
            await probe(asker, every, modes, counter)
        else:
            report.notes.append("Leaks were not looked for: that takes tokens of two tenants.")
        if there.canaries:
            report.filtered, notes = await filtered(asker, there, modes, counter)
            report.notes += notes
        searches = sum(map(len, asker.milliseconds.values()))
        after = None if before is None else await _scraped(session, self.target.url, report)
        if before is not None and after is not None:
            report.decisions = decided(before, after, searches=searches)
        report.latency = [
            Latency(mode, len(took), percentile(took, 0.5), percentile(took, 0.95))
            for mode, took in asker.milliseconds.items()
        ]
        if there.canaries:
            report.revoked = await revoked(asker, there, modes[0], self.changes, self.give_up_s)
        report.probes, report.leaks = counter.counted(), counter.leaks
        _say_what_is_missing(report, there)
        return report


async def _scraped(session: aiohttp.ClientSession, url: str, report: Report) -> Scrape | None:
    try:
        return await scrape(session, url)
    except Refused as refusal:
        report.notes.append(f"The time of decisions is not known: {refusal}.")
        return None


def _say_what_is_missing(report: Report, there: Planted) -> None:
    if not there.canaries:
        report.notes.append(
            "Recall under filters and the time to revoke were not measured: they take canaries (--canaries)."
        )
    elif not there.is_shared and len(report.tenants) > 1:
        report.notes.append(
            "No token may make a store that all tenants share, so each tenant has its canaries in a store of "
            "its own; the others searched that."
        )
    unattributed = sum(one.unattributed for one in report.probes)
    if unattributed:
        report.notes.append(
            f"Of {unattributed:,} hits it is not known whose they are: no member lists the file, and no "
            "question names it. They count as no leak."
        )
    report.notes += [
        f"Of the {one.change} of {len(there.canaries)} canaries nothing is known: none was found before it."
        for one in report.revoked
        if not one.changes
    ]
