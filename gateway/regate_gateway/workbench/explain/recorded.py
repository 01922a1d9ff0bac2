"""Recorded decisions, found in the audit records and explained: what `regate policy explain` and its HTTP
twin share.

Whoever calls this has decided that the asker may know; `tenant` bounds what is found all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from regate_gateway.workbench.explain.explanation import (
    HERE,
    Explanation,
    Tracing,
    as_document,
    explain,
    plan_document,
)
from regate_gateway.workbench.explain.filter import spell
from regate_gateway.workbench.explain.stored import NotThere, find_stored
from regate_gateway.workbench.explain.supposed import Supposition, suppose
from regate_gateway.workbench.replay.recorded import (
    Recorded,
    RecordedDecision,
    RecordedPlan,
    questions_in,
    read_records,
)
from regate_orchestrator.authz.plan_records import plan_digest
from regate_orchestrator.errors import (
    ConfigurationError,
    FilterNotExpressible,
    InvalidRequest,
    PolicyUnavailable,
)
from regate_orchestrator.filters.expression import expression_of
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import PolicyEngine, StateStore
from regate_orchestrator.principal import Principal
from regate_orchestrator.values import FileId, StoreId

_MAX_EXPLAINED: Final = 200
_MAX_TRACED: Final = 40
_AT_ONCE: Final = 2
"""Each trace is a process of its own."""


@dataclass(frozen=True, slots=True)
class ExplainedRecords:
    """What the records hold about one identifier, explained. `left_out` counts decisions beyond the
    first two hundred.
    """

    explanations: tuple[Explanation, ...]
    plans: tuple[Mapping[str, Any], ...]
    left_out: int

    def as_document(self) -> dict[str, Any]:
        """Return it all as JSON."""
        return {
            "decisions": [as_document(one) for one in self.explanations],
            "filters": [dict(plan) for plan in self.plans],
            "left_out": self.left_out,
        }


def find_decision(audit: Path, decision: str, *, tenant: str | None) -> list[Recorded]:
    """Return the one decision with this id, within the tenant if one is given; empty when there is
    none. Blocks while it reads.
    """
    for record in _records(audit, decision, tenant):
        chosen = tuple(one for one in questions_in(record).decisions if one.id == decision)
        if chosen:
            return [Recorded(decisions=chosen)]
    return []


def find_response(audit: Path, response: str, *, tenant: str | None) -> list[Recorded]:
    """Return all that was asked for this response, within the tenant if one is given. Blocks while
    it reads.
    """
    records = (
        record for record in _records(audit, response, tenant) if record.get("response_id") == response
    )
    found = (questions_in(record) for record in records)
    return [asked for asked in found if asked.decisions or asked.batches or asked.plans]


def _records(audit: Path, identifier: str, tenant: str | None) -> list[Mapping[str, Any]]:
    try:
        return [
            record
            for record in read_records(audit, mentioning=identifier)
            if tenant is None or record.get("tenant") == tenant
        ]
    except OSError as error:
        raise ConfigurationError(f"{audit}: the audit records cannot be read: {error.strerror}") from error


async def explain_all(
    found: list[Recorded], engine: PolicyEngine, tracing: Tracing | None, *, directory: str = HERE
) -> ExplainedRecords:
    """Return every decision explained; rules and lines for a single one, and else for those that are
    denied, as far as is bearable.
    """
    asked = [decision for one in found for decision in one.every_decision]
    traced = {id(one) for one in asked if len(asked) == 1}
    traced |= {id(one) for one in [one for one in asked if not one.allowed][:_MAX_TRACED]}
    room = asyncio.Semaphore(_AT_ONCE)

    async def explained(one: RecordedDecision) -> Explanation:
        async with room:
            return await explain(
                one, engine, tracing if id(one) in traced else None, was_asked=True, directory=directory
            )

    async with asyncio.TaskGroup() as group:
        running = [group.create_task(explained(one)) for one in asked[:_MAX_EXPLAINED]]
    plans = [await _plan_explained(plan, engine) for one in found for plan in one.plans]
    return ExplainedRecords(
        tuple(task.result() for task in running), tuple(plans), max(len(asked) - _MAX_EXPLAINED, 0)
    )


async def _plan_explained(recorded: RecordedPlan, engine: PolicyEngine) -> dict[str, Any]:
    """Return the recorded filter with its formula, made again of the question as it was asked; and whether it
    is still the recorded one.

    A record has no more of a filter than its size and its digest. `unchanged` is None where it has no digest.
    """
    document = plan_document(recorded)
    try:
        planned = await engine.plan(recorded.rule, recorded.document, unknown=recorded.unknown)
    except (FilterNotExpressible, PolicyUnavailable) as error:
        return {**document, "formula": None, "unchanged": None, "problem": error.detail}
    unchanged = plan_digest(planned.plan) == recorded.digest if recorded.digest else None
    return {**document, "formula": spell(expression_of(planned.plan)), "unchanged": unchanged, "problem": ""}


class AuditExplainer:
    """Explains what a running gateway decided, or would (`services.Explaining`). One at a time: it is
    for people, not for programs.
    """

    def __init__(
        self,
        audit: Path,
        state: StateStore,
        schemas: Mapping[str, RowSchema],
        engine: PolicyEngine,
        tracing: Tracing | None,
    ) -> None:
        self._audit = audit
        self._state = state
        self._schemas = schemas
        self._engine = engine
        self._tracing = tracing
        self._turn = asyncio.Lock()

    async def decision(self, tenant: str, decision: str) -> dict[str, Any] | None:
        """Return the decision of this tenant explained, or None when there is none."""
        async with self._turn:
            return await self._explained(
                await asyncio.to_thread(find_decision, self._audit, decision, tenant=tenant)
            )

    async def response(self, tenant: str, response: str) -> dict[str, Any] | None:
        """Return everything decided for this tenant's response explained, or None when there is nothing."""
        async with self._turn:
            return await self._explained(
                await asyncio.to_thread(find_response, self._audit, response, tenant=tenant)
            )

    async def file(
        self, principal: Principal, file: FileId, store: StoreId | None, *, now: int
    ) -> dict[str, Any]:
        """Return why the principal finds a stored file, or does not. Raises `InvalidRequest` where its
        tenant has no such file in the store.
        """
        async with self._turn:
            try:
                stored = await find_stored(self._state, principal, file, store, self._schemas)
            except NotThere as error:
                raise InvalidRequest(
                    f"There is nothing to explain: {error.words}.", param="file", code="nothing_to_explain"
                ) from error
            asked = Supposition(principal, stored.store, stored.chunk, file, now)
            found = await suppose(asked, self._engine, self._tracing, self._schemas["chunk"])
            return replace(
                found, notes=(*((stored.problem,) if stored.problem else ()), *found.notes)
            ).as_document()

    async def _explained(self, found: list[Recorded]) -> dict[str, Any] | None:
        return (await explain_all(found, self._engine, self._tracing)).as_document() if found else None
