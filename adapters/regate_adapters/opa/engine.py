"""The policy engine on OPA: questions answered and rules compiled into filter plans. Decides nothing; the
enforcer reads the answers.

What is not exactly the expected answer is `PolicyUnavailable`: another status, another shape, a missing
revision, no answer in time. `client.py` carries the bytes, `residual.py` makes the plan.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Protocol, Self

import orjson

from regate_adapters.opa import ast
from regate_adapters.opa.client import OpaAddress, OpaClient, Reply
from regate_adapters.opa.residual import NotUnderstood, translate
from regate_orchestrator.errors import PolicyUnavailable
from regate_orchestrator.filters.expression import plan_of
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import Answer, Planned
from regate_orchestrator.values import Json, JsonObject

_log = logging.getLogger("regate.opa")

_RULE: Final = re.compile(r"[a-z_][a-z0-9_]*(?:/[a-z_][a-z0-9_]*)+")
_QUESTION: Final = "?provenance=true&strict-builtin-errors=true"
_ANSWER_KEYS: Final = {"result", "provenance", "warning", "decision_id", "metrics"}
_META: Final = "regate/meta"
_REVISION: Final = "regate_revision"
_MAX_RESIDUAL_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Meta:
    """`data.regate.meta` of one revision."""

    revision: str
    helpers: Mapping[str, list[str]]
    places: Mapping[str, str]


class RevisionGate(Protocol):
    """Knows which policies may serve, where OPA takes them from elsewhere (`opa/policies/remote.py`)."""

    async def require(self, revision: str) -> None:
        """Return when the policies of this revision may serve. Must raise `PolicyUnavailable` otherwise."""
        ...


class OpaEngine:
    """One OPA as `ports.PolicyEngine`. Must be entered before use; many tasks may use it at once.

    `schemas` are the row schemas by the name of the unknown; a plan may then name declared fields only. OPA
    must run a bundle made by `bundle.build_bundle`, which carries `data.regate.meta`. `rules`, where they are
    given, are all that may be asked for: while the policy lacks one there is no `revision`, and `problem`
    says so. No answer and no plan is given of a revision that the `gate` does not let through; without one
    OPA runs only what was accepted before.
    """

    def __init__(
        self,
        address: OpaAddress,
        *,
        schemas: Mapping[str, RowSchema],
        deadline_s: float = 1.5,
        rules: Collection[str] | None = None,
        gate: RevisionGate | None = None,
    ) -> None:
        self._client = OpaClient(address, deadline_s=deadline_s)
        self._schemas = schemas
        self._rules = None if rules is None else frozenset(rules)
        self._gate = gate
        self._known_meta: _Meta | None = None
        self.problem: str | None = None
        """Which rules the active policy lacks; None while it lacks none, as far as is known."""

    async def __aenter__(self) -> Self:
        """Open the connection pool."""
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection pool."""
        await self._client.__aexit__(kind, error, trace)

    async def ask(self, rule: str, document: JsonObject) -> Answer:
        """Return the rule's value for this input, and the revision of the bundle that gave it. See
        `ports.PolicyEngine.ask`.
        """
        self._require_rule(rule)
        answer = await self._ask(rule, document)
        if answer.revision:  # one that names none says nothing at all, and that permits nothing
            await self._require_accepted(answer.revision)
        return answer

    async def _ask(self, rule: str, document: JsonObject) -> Answer:
        reply = await self._client.post(f"/v1/data/{rule}{_QUESTION}", {"input": document})
        body = _read(reply, rule)
        if not body:
            return Answer(defined=False, value=None, revision="")
        if not set(body) <= _ANSWER_KEYS:
            raise PolicyUnavailable(f"OPA's answer for {rule} has unknown parts: {sorted(body)}")
        return Answer(
            defined="result" in body,
            value=body.get("result"),
            revision=_revision_of(body.get("provenance"), rule),
        )

    async def plan(self, rule: str, document: JsonObject, *, unknown: str) -> Planned:
        """Return for which rows the rule is true. See `ports.PolicyEngine.plan`.

        The revision is part of the compiled query, so it is that of the very policy which made the plan; a
        policy change between learning the helper rules and compiling is noticed, and the plan made once more.
        """
        self._require_rule(rule)
        meta = self._known_meta or await self._meta()
        for _ in range(2):
            result = await self._compile(rule, document, unknown, meta)
            revision, residual = _without_revision(_residual(result, rule))
            # A rule that is never true leaves nothing that could carry the revision.
            if revision is None:
                revision = (await self._meta()).revision
            if revision == meta.revision:
                await self._require_accepted(revision)
                return Planned(plan_of(self._translate(residual, rule, unknown, meta)), revision)
            meta = await self._meta()
        raise PolicyUnavailable(f"the policy changed twice while {rule} was compiled")

    async def revision(self) -> str:
        """Return the active policy's revision; raises `PolicyUnavailable` unless a bundle is active
        that says so itself, and has all rules.
        """
        meta = await self._meta()
        lacking = sorted(
            rule for rule in self._rules or () if f"data.{rule.replace('/', '.')}" not in meta.places
        )
        self.problem = (
            f"the policy lacks {', '.join(lacking)}, for which OPA answers as for a denial"
            if lacking
            else None
        )
        if self.problem is not None:
            raise PolicyUnavailable(self.problem)
        await self._require_accepted(meta.revision)
        return meta.revision

    async def _require_accepted(self, revision: str) -> None:
        if self._gate is not None:
            await self._gate.require(revision)

    async def _meta(self) -> _Meta:
        answer = await self._ask(_META, {})
        if not answer.defined:
            self._known_meta = None
            raise PolicyUnavailable(
                "OPA has no data.regate.meta: no policy is active, or its bundle was not built by regate"
            )
        meta = _read_meta(answer.value)
        if meta.revision != answer.revision:
            raise PolicyUnavailable(
                f"the bundle’s revision is {answer.revision!r}, its content says {meta.revision!r}"
            )
        self._known_meta = meta
        return meta

    def _require_rule(self, rule: str) -> None:
        if _RULE.fullmatch(rule) is None:
            raise ValueError(f"{rule!r} is no path of a rule")
        if self._rules is not None and rule not in self._rules:
            raise ValueError(f"{rule!r} is none of the rules that policies are checked for")

    async def _compile(self, rule: str, document: JsonObject, unknown: str, meta: _Meta) -> Any:
        request: JsonObject = {
            "query": f"{_REVISION} = data.regate.meta.revision; data.{rule.replace('/', '.')} == true",
            "input": document,
            "unknowns": [f"input.{unknown}"],
            "options": {
                "disableInlining": meta.helpers.get(rule.rpartition("/")[0], []),
                "nondeterministicBuiltins": True,
            },
        }
        reply = await self._client.post("/v1/compile", request)
        if reply.status == 200 and len(reply.body) > _MAX_RESIDUAL_BYTES:
            raise NotUnderstood(
                rule,
                f"the residual is larger than {_MAX_RESIDUAL_BYTES} bytes: name the rules that list things",
            )
        body = _read(reply, rule, exact_numbers=True)
        if set(body) != {"result"}:
            raise PolicyUnavailable(f"OPA's compilation of {rule} has unknown parts: {sorted(body)}")
        return body["result"]

    def _translate(self, residual: ast.Residual, rule: str, unknown: str, meta: _Meta) -> Any:
        try:
            return translate(residual, rule=rule, unknown=unknown, schema=self._schemas.get(unknown))
        except NotUnderstood as refusal:
            place = meta.places.get(refusal.within)
            raise NotUnderstood(refusal.rule, refusal.reason, within=refusal.within, place=place) from None


def _read(reply: Reply, rule: str, *, exact_numbers: bool = False) -> Mapping[str, Any]:
    if reply.status != 200:
        _log.error("opa_refused", extra={"rule": rule, "status": reply.status, "body": reply.excerpt})
        raise PolicyUnavailable(f"OPA answered {reply.status} for {rule}: {reply.excerpt}")
    try:
        body = ast.parse(reply.body) if exact_numbers else orjson.loads(reply.body)
    except ast.Unreadable as error:
        raise NotUnderstood(rule, str(error)) from error
    except ValueError as error:
        raise PolicyUnavailable(f"OPA's answer for {rule} is not JSON: {reply.excerpt}") from error
    if not isinstance(body, dict):
        raise PolicyUnavailable(f"OPA's answer for {rule} is not an object: {reply.excerpt}")
    return body


def _revision_of(provenance: object, rule: str) -> str:
    """Return the revision of the one bundle that is active, which proves that the answer came from a
    policy at all.
    """
    bundles = provenance.get("bundles") if isinstance(provenance, Mapping) else None
    if isinstance(bundles, Mapping):
        revisions = {bundle.get("revision") for bundle in bundles.values() if isinstance(bundle, Mapping)} - {
            None,
            "",
        }
        if len(revisions) == 1 and isinstance(revision := revisions.pop(), str):
            return revision
    raise PolicyUnavailable(f"OPA's answer for {rule} names no policy bundle")


def _read_meta(value: Json) -> _Meta:
    match value:
        case {"revision": str(revision), "helpers": dict(helpers), "places": dict(places)} if revision:
            return _Meta(revision, helpers, places)
        case _:
            raise PolicyUnavailable("data.regate.meta does not have the shape that regate gives it")


def _residual(result: object, rule: str) -> ast.Residual:
    try:
        return ast.read_residual(result)
    except ast.Unreadable as error:
        raise NotUnderstood(rule, str(error)) from error


def _without_revision(residual: ast.Residual) -> tuple[str | None, ast.Residual]:
    """Return the revision that every query carries, and the residual without it; None when there is
    no query.
    """
    revisions: set[str] = set()
    queries: list[ast.Body] = []
    for query in residual.queries:
        carried = [(statement, _carried_revision(statement)) for statement in query]
        found = [revision for _, revision in carried if revision is not None]
        if len(found) != 1:
            raise PolicyUnavailable("a compiled query does not carry the policy's revision")
        revisions.update(found)
        queries.append(tuple(statement for statement, revision in carried if revision is None))
    if len(revisions) > 1:
        raise PolicyUnavailable("a compiled query carries several revisions")
    return (revisions.pop() if revisions else None), ast.Residual(tuple(queries), residual.rules)


def _carried_revision(statement: ast.Statement) -> str | None:
    match statement:
        case ast.Statement(
            ast.Call("eq", (ast.Variable(name), ast.Known(str(revision)))), negated=False, modified=False
        ):
            return revision if name == _REVISION else None
        case _:
            return None
