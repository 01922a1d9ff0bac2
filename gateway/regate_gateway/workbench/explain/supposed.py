"""A question that nobody asked yet: would this principal find this chunk, and why? For the command
line and for the API alike.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from regate_gateway.workbench.explain.explanation import HERE, Explanation, Tracing, as_document, explain
from regate_gateway.workbench.explain.filter import ShownFilter, show_filter
from regate_gateway.workbench.replay.recorded import Origin, RecordedDecision
from regate_orchestrator.authz.decisions import Point
from regate_orchestrator.authz.records import policy_input
from regate_orchestrator.errors import FilterNotExpressible
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import PolicyEngine
from regate_orchestrator.principal import Principal
from regate_orchestrator.values import JsonObject

_REQUEST: Final = "req_explain"


@dataclass(frozen=True, slots=True)
class Supposition:
    """Who would ask, in which store, at which time, and for which chunk; without a chunk it is the
    filter alone that is of interest.
    """

    principal: Principal
    store: JsonObject
    chunk: JsonObject | None
    about: str
    now: int


@dataclass(frozen=True, slots=True)
class Supposed:
    """The chunk's explanation, if there is a chunk, and the principal's filter; `notes` say what else
    is to be known.
    """

    explanation: Explanation | None
    shown: ShownFilter | None
    refused: str
    notes: tuple[str, ...]

    def as_document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "decision": None if self.explanation is None else as_document(self.explanation),
            "filter": {"refused": self.refused} if self.shown is None else asdict(self.shown),
            "notes": list(self.notes),
        }


async def suppose(
    asked: Supposition,
    engine: PolicyEngine,
    tracing: Tracing | None,
    schema: RowSchema,
    *,
    directory: str = HERE,
) -> Supposed:
    """Return what the engine's policy says of it; `schema` is that of chunks. Raises
    `PolicyUnavailable` when it gives no answer.
    """
    principal = asked.principal
    document = policy_input(
        principal.as_input(), "chunk.read", {"store": asked.store}, request_id=_REQUEST, now=asked.now
    )
    try:
        planned = await engine.plan(Point.CHUNK.value, document, unknown="chunk")
        shown, refused = show_filter(planned.plan, tenant=principal.tenant, schema=schema), ""
    except FilterNotExpressible as error:
        shown, refused = None, error.detail
    if asked.chunk is None:
        return Supposed(None, shown, refused, ())
    question = RecordedDecision(
        origin=Origin(
            "",
            "",
            _REQUEST,
            None,
            principal.tenant,
            principal.digest,
            f"{principal.tenant}/{principal.id}",
            "",
        ),
        id="",
        point=Point.CHUNK,
        action="chunk.read",
        about=asked.about,
        document={**document, "chunk": asked.chunk},
        allowed=False,
        reasons=(),
    )
    explanation = await explain(question, engine, tracing, was_asked=False, directory=directory)
    faults = tuple(f"the chunk is not stamped as declared: {fault}" for fault in schema.faults(asked.chunk))
    return Supposed(explanation, shown, refused, faults)
