"""The enforcer: the one place where a decision is asked for. Fails closed, and records every decision before
its effect (I1, I12).

An allow is exactly the value `true` from OPA; undefined, any other type and every error are not (I1). What
OPA cannot answer raises `PolicyUnavailable`, which ends the operation. Inputs carry metadata only: no text,
prompt, token or secret (I11).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, cast

from regate_orchestrator.authz.answers import texts
from regate_orchestrator.authz.asking import Asking
from regate_orchestrator.authz.batches import (
    BATCH_ACTION,
    BATCH_RULE,
    NONE_ADMITTED,
    Admitted,
    Batch,
    batch_entry,
    read_admitted,
)
from regate_orchestrator.authz.decisions import Allow, Context, Decision, Deny, Point, Question
from regate_orchestrator.authz.document_decisions import (
    DOCUMENT_REASONS_RULE,
    DOCUMENTS_RULE,
    MAX_CONCURRENT,
    Document,
    Ingestible,
    documents_input,
    outcomes,
    read_answer,
)
from regate_orchestrator.authz.measuring import DecisionMetrics, milliseconds_since
from regate_orchestrator.authz.plan_records import Compiled, describe, plan_digest
from regate_orchestrator.authz.points import PRINCIPAL
from regate_orchestrator.authz.records import (
    decision_entry,
    identity_input,
    policy_input,
    record_of,
    refused_identity,
    value_entry,
)
from regate_orchestrator.authz.remembered import REMEMBERED_POINTS, recalled
from regate_orchestrator.authz.spans import PhaseSpans, tell_plan, tell_principal
from regate_orchestrator.concurrency import few_at_once
from regate_orchestrator.errors import CallerError, PolicyUnavailable, Unauthenticated
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.metrics import Metrics
from regate_orchestrator.ports import AuditLog, DecisionMemory, PolicyEngine
from regate_orchestrator.principal import Authentication, Principal, Principals
from regate_orchestrator.tracing.spans import REQUEST_ID, TraceSpan
from regate_orchestrator.values import Clock, Json, JsonObject, RequestId, wall_clock

_EMPTY_BATCH: Final = Batch()
_MAX_CONCURRENT: Final = 32
"""Questions of one phase that are asked at the same time: half of what the wire to OPA takes, so that
others find a place beside them.
"""


class Enforcer:
    """Asks the policy engine and records what it said. Holds no state of its own; `memory` is what remembers
    identity, route and quota for a short while (I10).
    """

    def __init__(
        self,
        engine: PolicyEngine,
        audit: AuditLog,
        schemas: Mapping[str, RowSchema],
        clock: Clock = wall_clock,
        *,
        memory: DecisionMemory | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._engine = engine
        self._memory = memory
        self._audit = audit
        self._schemas = schemas
        self._clock = clock
        self._measures = DecisionMetrics(metrics or Metrics())
        self._asking = Asking(engine, self._measures)
        self._principals = Principals()

    async def principal(
        self,
        claims: JsonObject,
        *,
        authentication: Authentication,
        request_id: RequestId,
        span: TraceSpan | None = None,
    ) -> tuple[Principal, int | None]:
        """Return the principal that `regate.authn.principal` makes of verified claims, and for which time it
        was made where that is remembered; raises `Unauthenticated` when it makes none.
        """
        document = identity_input(claims, authentication, request_id=request_id, now=int(self._clock()))
        began = time.perf_counter()
        recall = self._memory and self._memory.of(document)
        answer = (recall and recall(PRINCIPAL)) or await self._asking.ask(PRINCIPAL, document)
        principal = self._principals.read(answer.value) if answer.defined else None
        allowed = principal is not None
        self._measures.decided("authn", allowed=allowed)
        if span is not None:
            tell_principal(span, {REQUEST_ID: str(request_id)}, answer, began=began, allowed=allowed)
        if principal is None:
            await self._audit.record(refused_identity(authentication, answer, request_id=request_id))
            raise Unauthenticated("The token does not name a principal that may use this service.")
        return principal, answer.made_for

    async def decide_all(
        self,
        context: Context,
        phase: str,
        questions: Sequence[Question],
        *,
        batch: Batch = _EMPTY_BATCH,
        notes: JsonObject | None = None,
    ) -> tuple[list[Decision], Admitted]:
        """Return the decisions of one phase of a request, after writing them all, with the notes, as
        one audit record.
        """
        began = time.perf_counter()
        now = int(self._clock())
        known = [self._recalled(context, question, now) for question in questions]
        spans = None if context.span is None else PhaseSpans(context, phase)
        if batch.is_empty and None not in known:
            decisions, admitted = cast("list[Decision]", known), NONE_ADMITTED
        else:
            asking = [
                partial(self._decide, context, *pair, now) for pair in zip(questions, known, strict=True)
            ]
            admitting = self.admitted_at(context, batch, now=now)
            decisions, admitted = await asyncio.gather(
                few_at_once(asking if spans is None else spans.timed(asking), most=_MAX_CONCURRENT),
                admitting if spans is None else spans.watched(admitting),
            )
        self._measures.all_decided(questions, decisions)
        entries = [decision_entry(*one) for one in zip(questions, decisions, strict=True)]
        revision = admitted.revision or (decisions[0].revision if decisions else "")
        if spans is not None:
            spans.decided(entries, revision=revision)
            spans.admitted(batch, admitted)
        record = record_of(context, phase, now) | {
            "revision": revision,
            "ms": milliseconds_since(began),
            "decisions": entries,
        }
        await self._write(record, batch, admitted, notes)
        return decisions, admitted

    async def decide(self, context: Context, question: Question) -> Decision:
        """Return one decision, recorded."""
        return (await self.decide_all(context, question.action, [question]))[0][0]

    async def require(self, context: Context, question: Question, *, otherwise: CallerError) -> Allow:
        """Return the allow, recorded; raises `otherwise` on a deny."""
        decision = await self.decide(context, question)
        if isinstance(decision, Deny):
            raise otherwise
        return decision

    async def admit(
        self, context: Context, phase: str, batch: Batch, *, notes: JsonObject | None = None
    ) -> Admitted:
        """Return what the batch admits, recorded."""
        return (await self.decide_all(context, phase, [], batch=batch, notes=notes))[1]

    async def ingestible(
        self, context: Context, store: JsonObject, documents: Sequence[Document]
    ) -> list[Ingestible]:
        """Return for each document whether its file may be read and whether it may be added to the store, and
        the stamp it must carry (I5).

        Raises `PolicyUnavailable` as `stamp` does. What was decided is recorded before this returns.
        """
        decided: list[Ingestible] = []
        for start in range(0, len(documents), MAX_CONCURRENT):
            decided += await self._ingestible(context, store, documents[start : start + MAX_CONCURRENT])
        return decided

    async def stamp(
        self, context: Context, question: Question, *, described: JsonObject | None = None
    ) -> tuple[Decision, dict[str, Json]]:
        """Return the decision on a file, store or document that is new or stamped anew and, when allowed, the
        stamp it must carry (I5).

        `described` are the row's fields that are not the policy's to say: its id, name and purpose. Raises
        `PolicyUnavailable` when the policy allows but its stamp does not conform to the row schema: a policy
        bug writes nothing.
        """
        decision = await self.decide(context, question)
        if isinstance(decision, Deny):
            return decision, {}
        document = self._input(context, question.action, question.resource, int(self._clock()))
        with self._measures.waiting("ask"):
            answer = await self._engine.ask(f"{question.point.package}/stamp", document)
            schema = self._schemas[str(question.point.contract.stamps)]
            if not isinstance(answer.value, Mapping):
                raise PolicyUnavailable(f"{question.point.package}/stamp is not an object")
            stamp = dict(answer.value)
            faults = schema.faults({**stamp, **(described or {})})
            if faults or stamp.get("tenant") != context.principal.tenant:
                fault = "; ".join(faults) or "tenant is not the principal's"
                raise PolicyUnavailable(f"{question.point.package}/stamp: {fault}")
        return decision, stamp

    async def plan(
        self, context: Context, point: Point, action: str, *, unknown: str, resource: JsonObject
    ) -> Compiled:
        """Return for which rows the point's rule allows the action. The caller must record the note
        with the access that uses the plan.
        """
        began = time.perf_counter()
        now = int(self._clock())
        with self._measures.waiting("plan"):
            planned = await self._engine.plan(
                point.value, self._input(context, action, resource, now), unknown=unknown
            )
        if context.span is not None:
            tell_plan(context.span, context.ids, point, action, planned, began=began)
        made_for = now if planned.made_for is None else planned.made_for
        note: JsonObject = {
            "rule": point.value,
            "unknown": unknown,
            "action": action,
            "resource": resource,
            "now": made_for,
            "revision": planned.revision,
            "plan": describe(planned.plan),
            "digest": plan_digest(planned.plan),
            "ms": milliseconds_since(began),
        }
        return Compiled(planned.plan, note, planned.revision, made_for, asked_at=now)

    async def value(self, context: Context, rule: str, action: str, resource: JsonObject) -> Json:
        """Return the value of a rule that is no yes or no (`on_deny`, `visible`), recorded; None when
        undefined.
        """
        now = int(self._clock())
        answer = await self._asking.ask(rule, self._input(context, action, resource, now))
        entry = value_entry(rule, action, resource, answer)
        await self._audit.record(
            record_of(context, action, now) | {"revision": answer.revision, "values": [entry]}
        )
        return answer.value if answer.defined else None

    async def admitted_at(self, context: Context, batch: Batch, *, now: int) -> Admitted:
        """Return what the batch admits at this time. It is not recorded: `settled` must be, before
        anything is done on the strength of it.
        """
        if batch.is_empty:
            return NONE_ADMITTED
        with self._measures.waiting("batch"):
            return read_admitted(
                await self._engine.ask(BATCH_RULE, self._input(context, BATCH_ACTION, batch.as_input(), now)),
                batch,
            )

    async def settled(
        self, context: Context, phase: str, batch: Batch, admitted: Admitted, *, now: int, notes: JsonObject
    ) -> None:
        """Record, with the notes, what `admitted_at` said of the batch."""
        if context.span is not None:
            PhaseSpans(context, phase).admitted(batch, admitted)
        await self._write(
            record_of(context, phase, now) | {"revision": admitted.revision}, batch, admitted, notes
        )

    async def explain_chunks(self, context: Context, batch: Batch) -> dict[int, tuple[str, ...]]:
        """Return for each position in `batch.chunks` why it is denied. For operators only: reasons
        tell of a chunk's existence.
        """
        document = self._input(context, "chunk.read", batch.as_input(), int(self._clock()))
        with self._measures.waiting("ask"):
            answer = await self._engine.ask("regate/lib/batch/chunk_reasons", document)
        reasons = answer.value if isinstance(answer.value, Mapping) else {}
        return {int(position): texts(said) for position, said in reasons.items()}

    async def revision(self) -> str:
        """Return the active policy revision; raises `PolicyUnavailable` when there is none."""
        return await self._engine.revision()

    async def record(self, context: Context, phase: str, notes: JsonObject) -> None:
        """Write an audit record of something done under decisions recorded before."""
        await self._audit.record(record_of(context, phase, int(self._clock())) | dict(notes))

    def _recalled(self, context: Context, question: Question, now: int) -> Decision | None:
        if self._memory is None or question.point not in REMEMBERED_POINTS:
            return None
        recall = self._memory.of(self._input(context, question.action, question.resource, now))
        return None if recall is None else recalled(question, recall)

    async def _decide(
        self, context: Context, question: Question, known: Decision | None, now: int
    ) -> Decision:
        if known is not None:
            return known
        document = self._input(context, question.action, question.resource, now)
        return await self._asking.decide(question, document)

    async def _ingestible(
        self, context: Context, store: JsonObject, documents: Sequence[Document]
    ) -> list[Ingestible]:
        began = time.perf_counter()
        spans = None if context.span is None else PhaseSpans(context, "ingest.document")
        now = int(self._clock())
        asked = self._input(context, BATCH_ACTION, documents_input(store, documents), now)
        with self._measures.waiting("batch"):
            answer = await self._engine.ask(DOCUMENTS_RULE, asked)
            if not answer.defined:
                raise PolicyUnavailable(f"{DOCUMENTS_RULE} is undefined")
            schema, tenant = self._schemas[str(Point.INGEST.contract.stamps)], context.principal.tenant
            found = read_answer(answer.value, count=len(documents), schema=schema, tenant=tenant)
        reasons = await self._document_reasons(
            asked, [place for place in range(len(documents)) if place not in found.stamps]
        )
        decided, entries = outcomes(store, documents, found, reasons=reasons, revision=answer.revision)
        self._measures.all_decided([one for one, _ in entries], [one for _, one in entries])
        told = [decision_entry(*one) for one in entries]
        if spans is not None:
            spans.decided(told, revision=answer.revision)
        record = record_of(context, "ingest.document", now) | {
            "revision": answer.revision,
            "ms": milliseconds_since(began),
            "decisions": told,
        }
        await self._audit.record(record)
        return decided

    async def _document_reasons(self, asked: JsonObject, places: Sequence[int]) -> dict[int, tuple[str, ...]]:
        """Return why the documents at these places are denied, as far as the policy says."""
        if not places:
            return {}
        documents = cast("Sequence[Json]", asked["documents"])
        answer = await self._asking.ask(
            DOCUMENT_REASONS_RULE, {**asked, "documents": [documents[place] for place in places]}
        )
        said = answer.value if isinstance(answer.value, Mapping) else {}
        return {place: texts(said.get(str(position))) for position, place in enumerate(places)}

    async def _write(
        self, record: dict[str, Json], batch: Batch, admitted: Admitted, notes: JsonObject | None
    ) -> None:
        self._measures.batch_decided(batch, admitted)
        if not batch.is_empty:
            record["batch"] = batch_entry(batch, admitted)
        await self._audit.record(record | dict(notes or {}))

    def _input(self, context: Context, action: str, resource: JsonObject, now: int) -> JsonObject:
        return policy_input(
            context.principal.as_input(), action, resource, request_id=context.request_id, now=now
        )
