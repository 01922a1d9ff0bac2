"""A candidate policy in the live one's shadow: asked the same, off the hot path, with what it would change
counted and written down.

`ShadowingEngine` is a `ports.PolicyEngine` whose every answer is the live engine's. The candidate cannot
influence one: it is asked later, by `work`, from a bounded queue; what does not fit is dropped and counted,
what it fails to answer is counted. Recorded traffic is compared by
`regate_gateway.workbench.replay.replaying`. The report holds metadata only: rules, actions, ids, digests and
reasons, never what was asked with.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

import orjson
from prometheus_client import Counter as Metric

from regate_adapters.opa.comparison import (
    Outcome,
    admitted_by,
    identifier_of,
    is_allow,
    outcome_of,
    plan_text,
    stamps_by,
    texts_in,
)
from regate_orchestrator.authz.batches import BATCH_RULE, KINDS, NAMED
from regate_orchestrator.authz.document_decisions import DOCUMENTS_RULE
from regate_orchestrator.authz.plan_records import plan_digest
from regate_orchestrator.errors import FilterNotExpressible, PolicyUnavailable
from regate_orchestrator.ports import Answer, Planned, PolicyEngine
from regate_orchestrator.principal import read_principal
from regate_orchestrator.values import Clock, Json, JsonObject, wall_clock

_log = logging.getLogger("regate.opa")


_CAPACITY: Final = 1_000
_ASKING: Final = 4
_MAX_REPORT_BYTES: Final = 64 * 1024 * 1024
_SUMMARY_SECONDS: Final = 60.0
_WITHOUT_PAUSE: Final = 500
_YES_OR_NO: Final = ("allow", "admit_result")
_ALSO_COMPARED: Final = (
    "principal",
    "stamp",
    "on_deny",
    "limits",
    "backend",
    "obligations",
    "placement",
    "visible",
    "needs_approval",
)
_REASONS: Final = {"regate/ingest/allow": "regate/ingest/reject_reasons"}
_CHUNK_REASONS: Final = "regate/lib/batch/chunk_reasons"

DECISIONS: Final = Metric(
    "regate_shadow_decisions_total",
    "Decisions that a shadowed candidate policy made as well, by what it would change.",
    ("rule", "outcome"),
)
DIFFERENCES: Final = Metric(
    "regate_shadow_values_total",
    "Filters, stamps, principals, limits and other values that a shadowed candidate policy gave as well.",
    ("rule", "outcome"),
)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question that the live engine has answered."""

    rule: str
    document: JsonObject
    answer: Answer


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A rule that the live engine has compiled."""

    rule: str
    document: JsonObject
    unknown: str
    planned: Planned


@dataclass(frozen=True, slots=True)
class _Flip:
    """One difference, as it is reported."""

    rule: str
    outcome: Outcome
    about: str = ""
    reasons: tuple[str, ...] = ()


class ShadowingEngine:
    """The live engine, shadowed. `work` must run for as long as it is used; without it questions are dropped
    once the queue is full.

    `report` is a file to which every flip is appended as one JSON line, at most 64 MiB of them. `counts`
    holds what `/metrics` shows.
    """

    def __init__(
        self,
        live: PolicyEngine,
        candidate: PolicyEngine,
        *,
        report: Path,
        capacity: int = _CAPACITY,
        clock: Clock = wall_clock,
    ) -> None:
        self._live = live
        self._candidate = candidate
        self._report = report
        self._clock = clock
        self._waiting: asyncio.Queue[_Asked | _Compiled] = asyncio.Queue(capacity)
        self._since = self._now()
        self._summarised = clock()
        self._written = 0
        self.counts: Counter[tuple[str, Outcome]] = Counter()
        """How often each rule turned out how, since the start."""

    async def ask(self, rule: str, document: JsonObject) -> Answer:
        """Return the live engine's answer. See `ports.PolicyEngine.ask`."""
        answer = await self._live.ask(rule, document)
        if rule in (BATCH_RULE, DOCUMENTS_RULE) or rule.rpartition("/")[2] in (*_YES_OR_NO, *_ALSO_COMPARED):
            self._remember(_Asked(rule, document, answer))
        return answer

    async def plan(self, rule: str, document: JsonObject, *, unknown: str) -> Planned:
        """Return the live engine's plan. See `ports.PolicyEngine.plan`."""
        planned = await self._live.plan(rule, document, unknown=unknown)
        self._remember(_Compiled(rule, document, unknown, planned))
        return planned

    async def revision(self) -> str:
        """Return the live engine's revision."""
        return await self._live.revision()

    def _remember(self, asked: _Asked | _Compiled) -> None:
        # INVARIANT: never waits and never raises; the caller's answer is already made.
        try:
            self._waiting.put_nowait(asked)
        except asyncio.QueueFull:
            self._count(asked.rule, "dropped", is_value=_is_value(asked))

    # ------------------------------------------------------------ off the hot path

    async def work(self) -> None:
        """Ask the candidate what the live engine was asked, until cancelled. Must never raise for
        anything that the candidate does.
        """
        try:
            await asyncio.to_thread(self._prepare)
        except OSError as error:
            _log.error("shadow_report_not_writable", extra={"cause": error.strerror})
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(_ASKING):
                    group.create_task(self._compare_all())
        finally:
            self._append([self._summary()])

    async def idle(self) -> None:
        """Return once everything remembered so far was compared. For tests and for an orderly end."""
        await self._waiting.join()

    async def _compare_all(self) -> None:
        while True:
            asked = await self._waiting.get()
            try:
                await self._compare(asked)
            except Exception as error:  # noqa: BLE001 — whatever the candidate does must end here
                self._count(asked.rule, "error", is_value=_is_value(asked))
                _log.warning(
                    "shadow_failed",
                    extra={"rule": asked.rule, "cause": getattr(error, "detail", "") or repr(error)},
                )
            finally:
                self._waiting.task_done()

    async def _compare(self, asked: _Asked | _Compiled) -> None:
        match asked:
            case _Compiled():
                flips = [await self._compare_plan(asked)]
            case _Asked(rule) if rule == BATCH_RULE:
                flips = await self._compare_batch(asked)
            case _Asked(rule) if rule == DOCUMENTS_RULE:
                flips = await self._compare_documents(asked)
            case _:
                flips = [await self._compare_answer(asked)]
        lines: list[JsonObject] = []
        for number, flip in enumerate(flips, start=1):
            self._count(flip.rule, flip.outcome, is_value=_is_value(asked) or flip.rule.endswith("/stamp"))
            if flip.outcome != "same":
                lines.append(self._line(asked, flip))
            if number % _WITHOUT_PAUSE == 0:  # the live requests are served by the same loop
                await asyncio.sleep(0)
        if self._clock() - self._summarised >= _SUMMARY_SECONDS:
            self._summarised = self._clock()
            lines.append(self._summary())
        if lines:
            await asyncio.to_thread(self._append, lines)

    async def _compare_answer(self, asked: _Asked) -> _Flip:
        answer = await self._candidate.ask(asked.rule, asked.document)
        about = identifier_of(asked.document)
        if _is_value(asked):
            same = (answer.defined, answer.value) == (asked.answer.defined, asked.answer.value)
            return _Flip(asked.rule, "same" if same else "differs", about)
        was, now = is_allow(asked.answer), is_allow(answer)
        return _Flip(
            asked.rule,
            outcome_of(was=was, now=now),
            about,
            await self._reasons(asked) if was and not now else (),
        )

    async def _compare_plan(self, asked: _Compiled) -> _Flip:
        try:
            planned = await self._candidate.plan(asked.rule, asked.document, unknown=asked.unknown)
        except FilterNotExpressible as error:
            return _Flip(asked.rule, "differs", asked.unknown, (error.detail,))
        if plan_digest(planned.plan) == plan_digest(asked.planned.plan):
            return _Flip(asked.rule, "same", asked.unknown)
        change = f"{plan_text(asked.planned.plan)} → {plan_text(planned.plan)}"
        return _Flip(asked.rule, "differs", asked.unknown, (change,))

    async def _compare_batch(self, asked: _Asked) -> list[_Flip]:
        """Return every member of the batch, compared by the rule that decides it."""
        was = admitted_by(asked.answer.value)
        now = admitted_by((await self._candidate.ask(asked.rule, asked.document)).value)
        lost = {position for name, position in was - now if name == "chunks"}
        reasons = await self._chunk_reasons(asked) if lost else {}
        flips: list[_Flip] = []
        for kind in KINDS:
            name, members = kind.name, cast("Sized", asked.document.get(kind.name, ()))
            keys: list[str | int] = (
                list(cast("Iterable[str]", members)) if name in NAMED else list(range(len(members)))
            )
            for key in keys:
                outcome = outcome_of(was=(name, key) in was, now=(name, key) in now)
                why = reasons.get(str(key), ()) if name == "chunks" and outcome == "would_deny" else ()
                flips.append(_Flip(kind.point.value, outcome, f"{name}/{key}", why))
        return flips

    async def _compare_documents(self, asked: _Asked) -> list[_Flip]:
        """Return every document compared: whether its file may be read, whether it may be ingested,
        and how it is stamped.
        """
        was, now = (
            stamps_by(answer.value)
            for answer in (asked.answer, await self._candidate.ask(asked.rule, asked.document))
        )
        flips: list[_Flip] = []
        for position, document in enumerate(
            cast("Sequence[Mapping[str, JsonObject]]", asked.document["documents"])
        ):
            about, key = f"file/{document['file'].get('id', '')}", str(position)
            flips.append(
                _Flip("regate/file/allow", outcome_of(was=position in was[0], now=position in now[0]), about)
            )
            flips.append(
                _Flip("regate/ingest/allow", outcome_of(was=key in was[1], now=key in now[1]), about)
            )
            if key in was[1] and key in now[1]:
                flips.append(
                    _Flip("regate/ingest/stamp", "same" if was[1][key] == now[1][key] else "differs", about)
                )
        return flips

    async def _reasons(self, asked: _Asked) -> tuple[str, ...]:
        rule = _REASONS.get(asked.rule, f"{asked.rule.rpartition('/')[0]}/deny_reasons")
        return texts_in(await self._value(rule, asked.document))

    async def _chunk_reasons(self, asked: _Asked) -> dict[str, tuple[str, ...]]:
        value = await self._value(_CHUNK_REASONS, asked.document)
        return (
            {position: texts_in(texts) for position, texts in value.items()}
            if isinstance(value, Mapping)
            else {}
        )

    async def _value(self, rule: str, document: JsonObject) -> Json:
        """Return what the candidate says beside its decision; None when it cannot say, which is no
        reason to lose the flip.
        """
        try:
            return (await self._candidate.ask(rule, document)).value
        except PolicyUnavailable:
            return None

    # ------------------------------------------------------------ what is told

    def _count(self, rule: str, outcome: Outcome, *, is_value: bool) -> None:
        self.counts[rule, outcome] += 1
        (DIFFERENCES if is_value else DECISIONS).labels(rule, outcome).inc()

    def _line(self, asked: _Asked | _Compiled, flip: _Flip) -> JsonObject:
        principal = read_principal(asked.document.get("principal"))
        _log.info("shadow_flip", extra={"rule": flip.rule, "outcome": flip.outcome})
        return {
            "kind": "flip",
            "at": self._now(),
            "rule": flip.rule,
            "outcome": flip.outcome,
            "filter": isinstance(asked, _Compiled),
            "action": asked.document.get("action"),
            "about": flip.about,
            "reasons": list(flip.reasons),
            "request_id": asked.document.get("request_id"),
            "principal": None if principal is None else principal.digest,
            "revision": asked.planned.revision if isinstance(asked, _Compiled) else asked.answer.revision,
        }

    def _summary(self) -> JsonObject:
        counts: list[Json] = [
            {"rule": rule, "outcome": outcome, "count": count}
            for (rule, outcome), count in sorted(self.counts.items())
        ]
        return {"kind": "summary", "since": self._since, "at": self._now(), "counts": counts}

    def _now(self) -> str:
        return (
            datetime.fromtimestamp(self._clock(), UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z")
        )

    def _prepare(self) -> None:
        self._report.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._written = self._report.stat().st_size if self._report.exists() else 0

    def _append(self, lines: list[JsonObject]) -> None:
        """Append the lines; a report that cannot be written is logged and nothing else."""
        content = b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines)
        if self._written + len(content) > _MAX_REPORT_BYTES:
            return
        try:
            descriptor = os.open(
                self._report, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
            with open(descriptor, "ab") as file:  # noqa: PTH123 — a descriptor
                file.write(content)
        except OSError as error:
            _log.error("shadow_report_not_written", extra={"cause": error.strerror})
            return
        self._written += len(content)


def unharming(work: Callable[[], Coroutine[Any, Any, object]]) -> Callable[[], Coroutine[Any, Any, None]]:
    """Return the work so that its failure ends it alone, with a line in the log, and not whatever runs
    beside it.
    """

    async def tried() -> None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 — a candidate must not stop the gateway
            _log.error("shadow_stopped", extra={"cause": repr(error)})

    return tried


def _is_value(asked: _Asked | _Compiled) -> bool:
    """Return whether the answer is more than yes or no, so that it can differ in more than one direction."""
    return isinstance(asked, _Compiled) or asked.rule.rpartition("/")[2] in _ALSO_COMPARED
