"""The enforcer: the one place where a decision is asked for. Fails closed, and records every decision before its effect (I1, I12).

An allow is exactly the value `true` from OPA; undefined, any other type and every error are not (I1). What OPA cannot answer raises
`PolicyUnavailable`, which ends the operation. Inputs carry metadata only: no text, prompt, token or secret (I11).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Literal, cast

from regate_orchestrator.decision_notes import admitted_members, batch_entry, decision_entry
from regate_orchestrator.decisions import Allow, Context, Decision, Deny, Point, Question
from regate_orchestrator.document_decisions import (
    DOCUMENT_REASONS_RULE,
    DOCUMENTS_RULE,
    MOST_AT_ONCE,
    Document,
    Ingestible,
    documents_input,
    outcomes,
    read_answer,
)
from regate_orchestrator.errors import CallerError, PolicyUnavailable, Unauthenticated
from regate_orchestrator.filters import FilterPlan
from regate_orchestrator.plan_notes import describe, plan_digest
from regate_orchestrator.ports import Answer, AuditLog, Meter, PolicyEngine, Unmetered
from regate_orchestrator.principal import Principal, read_principal
from regate_orchestrator.quota import LIMITS, permits
from regate_orchestrator.schema import RowSchema
from regate_orchestrator.values import Clock, Json, JsonObject, RequestId, wall_clock

_REASONS_RULE: Final = {Point.INGEST: "reject_reasons"}
BATCH_RULE: Final = "regate/lib/batch/admitted"
BATCH_ACTION: Final = "batch"
_STAMPED: Final = {Point.STORE: "store", Point.FILE: "file", Point.PROMPT: "prompt", Point.INGEST: "chunk"}


@dataclass(frozen=True, slots=True)
class Batch:
    """Many decisions in one query (`regate.lib.batch`), each by the same rule as when asked for singly."""

    stores: Mapping[str, JsonObject] = field(default_factory=dict)
    """Store rows by id, each decided for `store.search` and known to the chunks below."""
    chunks: Sequence[tuple[str, JsonObject]] = ()
    """Pairs of store id and canonical stamp, decided for `chunk.read`."""
    items: Sequence[JsonObject] = ()
    """Stored items, decided for `history.reuse`."""
    tool_results: Sequence[JsonObject] = ()
    """Mappings of `tool` and `result` metadata, decided for `tool.result`."""
    models: Sequence[str] = ()
    """Model names, decided for `model.list`."""

    def as_input(self) -> JsonObject:
        """Return the batch's part of the policy input."""
        return {
            "stores": dict(self.stores),
            "chunks": [{"store": store, "chunk": stamp} for store, stamp in self.chunks],
            "items": list(self.items),
            "tool_results": list(self.tool_results),
            "models": list(self.models),
        }


@dataclass(frozen=True, slots=True)
class Admitted:
    """What a batch admitted: store ids and model names, and positions in the batch's sequences. Whatever is not named is denied."""

    revision: str
    stores: frozenset[str]
    chunks: frozenset[int]
    items: frozenset[int]
    tool_results: frozenset[int]
    models: frozenset[str]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A filter plan, and what an audit record says of how it was made: enough to make it again, never its values."""

    plan: FilterPlan
    note: JsonObject
    revision: str
    now: int
    """The time that the plan was made for: it may have been made for an earlier request."""


_EMPTY_BATCH: Final = Batch()
_UNMETERED: Final = Unmetered()
_NONE_ADMITTED: Final = Admitted("", frozenset(), frozenset(), frozenset(), frozenset(), frozenset())


class Enforcer:
    """Asks the policy engine and records what it said. Holds no state of its own and caches no decision (I10)."""

    def __init__(
        self,
        engine: PolicyEngine,
        audit: AuditLog,
        schemas: Mapping[str, RowSchema],
        clock: Clock = wall_clock,
        *,
        meter: Meter = _UNMETERED,
    ) -> None:
        self._engine = engine
        self._audit = audit
        self._schemas = schemas
        self._clock = clock
        self._meter = meter

    async def principal(self, claims: JsonObject, *, method: str, request_id: RequestId) -> Principal:
        """Return the principal that `regate.authn.principal` makes of verified claims; raises `Unauthenticated` when it makes none."""
        document: JsonObject = {
            "v": 1,
            "now": int(self._clock()),
            "request_id": request_id,
            "action": "authn.principal",
            "claims": claims,
            "method": method,
        }
        with self._waiting("ask"):
            answer = await self._engine.ask("regate/authn/principal", document)
        principal = read_principal(answer.value) if answer.defined else None
        self._meter.decided("authn", allowed=principal is not None)
        if principal is None:
            await self._audit.record({"kind": "identity", "request_id": request_id, "revision": answer.revision, "allowed": False})
            raise Unauthenticated("The token does not name a principal that may use this service.")
        return principal

    async def settle(
        self, context: Context, phase: str, questions: Sequence[Question], *, batch: Batch = _EMPTY_BATCH, notes: JsonObject | None = None
    ) -> tuple[list[Decision], Admitted]:
        """Return the decisions of one phase of a request, after writing them all, with the notes, as one audit record."""
        began = time.perf_counter()
        now = int(self._clock())
        decisions, admitted = await asyncio.gather(
            asyncio.gather(*(self._decide(context, question, now) for question in questions)), self._admit(context, batch, now)
        )
        record = self._record(context, phase, now) | {
            "revision": admitted.revision or (decisions[0].revision if decisions else ""),
            "ms": _milliseconds_since(began),
            "decisions": [decision_entry(question, decision) for question, decision in zip(questions, decisions, strict=True)],
        }
        self._count(questions, decisions, batch, admitted)
        if batch != _EMPTY_BATCH:
            record["batch"] = batch_entry(batch, admitted)
        await self._audit.record(record | dict(notes or {}))
        return list(decisions), admitted

    async def decide(self, context: Context, question: Question) -> Decision:
        """Return one decision, recorded."""
        decisions, _ = await self.settle(context, question.action, [question])
        return decisions[0]

    async def require(self, context: Context, question: Question, *, otherwise: CallerError) -> Allow:
        """Return the allow, recorded; raises `otherwise` on a deny."""
        decision = await self.decide(context, question)
        if isinstance(decision, Deny):
            raise otherwise
        return decision

    async def admit(self, context: Context, phase: str, batch: Batch, *, notes: JsonObject | None = None) -> Admitted:
        """Return what the batch admits, recorded."""
        _, admitted = await self.settle(context, phase, [], batch=batch, notes=notes)
        return admitted

    async def ingestible(self, context: Context, store: JsonObject, documents: Sequence[Document]) -> list[Ingestible]:
        """Return for each document whether its file may be read and whether it may be added to the store, and the stamp it must carry (I5).

        Raises `PolicyUnavailable` as `stamp` does. What was decided is recorded before this returns.
        """
        decided: list[Ingestible] = []
        for start in range(0, len(documents), MOST_AT_ONCE):
            decided += await self._ingestible(context, store, documents[start : start + MOST_AT_ONCE])
        return decided

    async def stamp(self, context: Context, question: Question, *, described: JsonObject | None = None) -> tuple[Decision, dict[str, Json]]:
        """Return the decision on a file, store or document that is new or stamped anew and, when allowed, the stamp it must carry (I5).

        `described` are the row's fields that are not the policy's to say: its id, name and purpose. Raises `PolicyUnavailable` when the
        policy allows but its stamp does not conform to the row schema: a policy bug writes nothing.
        """
        decision = await self.decide(context, question)
        if isinstance(decision, Deny):
            return decision, {}
        document = self._input(context, question.action, question.resource, int(self._clock()))
        with self._waiting("ask"):
            answer = await self._engine.ask(f"{question.point.package}/stamp", document)
            schema = self._schemas[_STAMPED[question.point]]
            if not isinstance(answer.value, Mapping):
                raise PolicyUnavailable(f"{question.point.package}/stamp is not an object")
            stamp = dict(answer.value)
            faults = schema.faults({**stamp, **(described or {})})
            if faults or stamp.get("tenant") != context.principal.tenant:
                raise PolicyUnavailable(f"{question.point.package}/stamp: {'; '.join(faults) or 'tenant is not the principal’s'}")
        return decision, stamp

    async def plan(self, context: Context, point: Point, action: str, *, unknown: str, resource: JsonObject) -> Compiled:
        """Return for which rows the point's rule allows the action. The caller must record the note with the access that uses the plan."""
        began = time.perf_counter()
        now = int(self._clock())
        with self._waiting("plan"):
            planned = await self._engine.plan(point.value, self._input(context, action, resource, now), unknown=unknown)
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
            "ms": _milliseconds_since(began),
        }
        return Compiled(planned.plan, note, planned.revision, made_for)

    async def plan_listing(
        self, context: Context, point: Point, action: str, *, unknown: str, resource: JsonObject | None = None
    ) -> FilterPlan:
        """Return which rows a listing may show, after recording that it was asked."""
        compiled = await self.plan(context, point, action, unknown=unknown, resource=resource or {})
        record = self._record(context, action, int(self._clock())) | {"revision": compiled.note["revision"], "compiled": compiled.note}
        await self._audit.record(record)
        return compiled.plan

    async def value(self, context: Context, rule: str, action: str, resource: JsonObject) -> Json:
        """Return the value of a rule that qualifies a decision already made (`on_deny`, `obligations`); None when undefined."""
        with self._waiting("ask"):
            answer = await self._engine.ask(rule, self._input(context, action, resource, int(self._clock())))
        return answer.value if answer.defined else None

    async def admitted_at(self, context: Context, batch: Batch, *, now: int) -> Admitted:
        """Return what the batch would admit at another time. A diagnosis: nothing may be done on the strength of it, so it is not recorded."""
        return await self._admit(context, batch, now)

    async def explain_chunks(self, context: Context, batch: Batch) -> dict[int, tuple[str, ...]]:
        """Return for each position in `batch.chunks` why it is denied. For operators only: reasons tell of a chunk's existence."""
        document = self._input(context, "chunk.read", batch.as_input(), int(self._clock()))
        with self._waiting("ask"):
            answer = await self._engine.ask("regate/lib/batch/chunk_reasons", document)
        reasons = answer.value if isinstance(answer.value, Mapping) else {}
        return {int(position): _texts(texts) for position, texts in reasons.items()}

    async def revision(self) -> str:
        """Return the active policy revision; raises `PolicyUnavailable` when there is none."""
        return await self._engine.revision()

    async def record(self, context: Context, phase: str, notes: JsonObject) -> None:
        """Write an audit record of something done under decisions recorded before."""
        await self._audit.record(self._record(context, phase, int(self._clock())) | dict(notes))

    async def _decide(self, context: Context, question: Question, now: int) -> Decision:
        document = self._input(context, question.action, question.resource, now)
        answer, said = await self._asked(question, document)
        if answer.defined and question.point is Point.QUOTA:
            if not permits(question.point, answer.value):  # a policy bug sets nobody free
                raise PolicyUnavailable(f"{question.point.value} is not an object of six whole numbers")
            return Allow(answer.revision, {LIMITS: answer.value})
        if answer.defined and answer.value is True:
            return Allow(answer.revision, await self._qualities(question, document, answer.revision, said))
        with self._waiting("ask"):
            reasons = await self._engine.ask(reasons_rule(question.point), document)
        return Deny(answer.revision, _texts(reasons.value) if reasons.defined else ())

    async def _ingestible(self, context: Context, store: JsonObject, documents: Sequence[Document]) -> list[Ingestible]:
        began = time.perf_counter()
        now = int(self._clock())
        asked = self._input(context, BATCH_ACTION, documents_input(store, documents), now)
        with self._waiting("batch"):
            answer = await self._engine.ask(DOCUMENTS_RULE, asked)
            if not answer.defined:
                raise PolicyUnavailable(f"{DOCUMENTS_RULE} is undefined")
            schema, tenant = self._schemas[_STAMPED[Point.INGEST]], context.principal.tenant
            found = read_answer(answer.value, count=len(documents), schema=schema, tenant=tenant)
        reasons = await self._document_reasons(asked, [place for place in range(len(documents)) if place not in found.stamps])
        decided, entries = outcomes(store, documents, found, reasons=reasons, revision=answer.revision)
        self._count([question for question, _ in entries], [decision for _, decision in entries], _EMPTY_BATCH, _NONE_ADMITTED)
        record = self._record(context, "ingest.document", now) | {
            "revision": answer.revision,
            "ms": _milliseconds_since(began),
            "decisions": [decision_entry(question, decision) for question, decision in entries],
        }
        await self._audit.record(record)
        return decided

    async def _document_reasons(self, asked: JsonObject, places: Sequence[int]) -> dict[int, tuple[str, ...]]:
        """Return why the documents at these places are denied, as far as the policy says."""
        if not places:
            return {}
        documents = cast("Sequence[Json]", asked["documents"])
        answer = await self._ask(DOCUMENT_REASONS_RULE, {**asked, "documents": [documents[place] for place in places]})
        said = answer.value if isinstance(answer.value, Mapping) else {}
        return {place: _texts(said.get(str(position))) for position, place in enumerate(places)}

    async def _asked(self, question: Question, document: JsonObject) -> tuple[Answer, list[Answer | BaseException]]:
        """Return the decision's answer, and beside it what the rules that qualify it say, failures included: a deny needs none of them."""
        if not question.qualified_by:
            return await self._ask(question.point.value, document), []
        rules = [question.point.value, *question.qualifying_rules]
        answer, *said = await asyncio.gather(*(self._ask(rule, document) for rule in rules), return_exceptions=True)
        if isinstance(answer, BaseException):
            raise answer
        return answer, said

    async def _qualities(
        self, question: Question, document: JsonObject, revision: str, said: Sequence[Answer | BaseException]
    ) -> dict[str, Json]:
        """Return the values that qualify an allow, all of the revision that allows; asks once more for one of another revision."""
        qualities: dict[str, Json] = {}
        for name, rule, first in zip(question.qualified_by, question.qualifying_rules, said, strict=True):
            if isinstance(first, BaseException):
                raise first
            answer = first if first.revision == revision else await self._ask(rule, document)
            if answer.revision != revision:
                raise PolicyUnavailable(f"the policy changed while {question.point.value} was asked")
            if answer.defined:
                qualities[name] = answer.value
        return qualities

    async def _ask(self, rule: str, document: JsonObject) -> Answer:
        with self._waiting("ask"):
            return await self._engine.ask(rule, document)

    async def _admit(self, context: Context, batch: Batch, now: int) -> Admitted:
        if batch == _EMPTY_BATCH:
            return _NONE_ADMITTED
        with self._waiting("batch"):
            answer = await self._engine.ask(BATCH_RULE, self._input(context, BATCH_ACTION, batch.as_input(), now))
            value = answer.value
            if not answer.defined or not isinstance(value, Mapping):
                raise PolicyUnavailable(f"{BATCH_RULE} is not an object")
            return Admitted(
                revision=answer.revision,
                stores=admitted_members(value, "stores", set(batch.stores)),
                chunks=admitted_members(value, "chunks", set(range(len(batch.chunks)))),
                items=admitted_members(value, "items", set(range(len(batch.items)))),
                tool_results=admitted_members(value, "tool_results", set(range(len(batch.tool_results)))),
                models=admitted_members(value, "models", set(batch.models)),
            )

    @contextmanager
    def _waiting(self, kind: Literal["ask", "plan", "batch"]) -> Iterator[None]:
        """Measure an exchange with the policy engine, the reading of its answer included, and count it when the answer was of no use."""
        began = time.perf_counter()
        try:
            yield
        except PolicyUnavailable as error:
            self._meter.unanswered(error)
            raise
        finally:
            self._meter.asked(kind, seconds=time.perf_counter() - began)

    def _count(self, questions: Sequence[Question], decisions: Sequence[Decision], batch: Batch, admitted: Admitted) -> None:
        for question, decision in zip(questions, decisions, strict=True):
            self._meter.decided(question.point.short, allowed=isinstance(decision, Allow))
        for point, asked, allowed in (
            (Point.STORE, batch.stores, admitted.stores),
            (Point.CHUNK, batch.chunks, admitted.chunks),
            (Point.HISTORY, batch.items, admitted.items),
            (Point.TOOL_RESULT, batch.tool_results, admitted.tool_results),
            (Point.ROUTE, batch.models, admitted.models),
        ):
            if asked:
                self._meter.decided(point.short, allowed=True, count=len(allowed))
                self._meter.decided(point.short, allowed=False, count=len(asked) - len(allowed))

    def _input(self, context: Context, action: str, resource: JsonObject, now: int) -> JsonObject:
        return policy_input(context.principal.as_input(), action, resource, request_id=context.request_id, now=now)

    def _record(self, context: Context, phase: str, now: int) -> dict[str, Json]:
        return {
            "kind": "decisions",
            "phase": phase,
            "request_id": context.request_id,
            "response_id": context.response_id,
            "tenant": context.principal.tenant,
            "subject": context.principal.id,
            "principal": context.principal.digest,
            "asked_as": context.principal.as_input(),
            "now": now,
        }


def policy_input(principal: JsonObject, action: str, resource: JsonObject, *, request_id: str, now: int) -> JsonObject:
    """Return the input of one question: what every point is told, and the point's own keys. Recorded questions are asked again with it."""
    return {"v": 1, "now": now, "request_id": request_id, "action": action, "principal": principal, **resource}


def reasons_rule(point: Point) -> str:
    """Return the rule that says why the point denies."""
    return f"{point.package}/{_REASONS_RULE.get(point, 'deny_reasons')}"


def _texts(value: Json) -> tuple[str, ...]:
    return tuple(text for text in value if isinstance(text, str)) if isinstance(value, list | tuple) else ()


def _milliseconds_since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 3)
