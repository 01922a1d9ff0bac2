"""The span of a request: begun before anything looks at it, ended when its answer was sent whole.

Named as OpenTelemetry's conventions for HTTP servers have it, by the method and the template of the route. Of
the address nothing is told: it holds what a client chose (`url.path`, `url.query`, `client.address`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from regate_gateway.telemetry.receipts import LatestRecord
from regate_gateway.telemetry.requests import NO_ANSWER, route_and_method
from regate_orchestrator.tracing.spans import (
    AUDIT_DIGEST,
    AUDIT_SEQ,
    METHOD,
    REQUEST_ID,
    ROUTE,
    STATUS,
    Tracer,
    TraceSpan,
    Value,
)

_TRACED: Final = "/v1/"
"""What is below this path is traced; not what probes and scrapers ask every few seconds."""
_SERVER_ERROR: Final = 500


def begin_span(
    tracer: Tracer, path: str, method: str, *, request_id: str, traceparents: Sequence[bytes]
) -> TraceSpan | None:
    """Return the request's span, or None where it is to have none. See `Tracer.begin`."""
    if not path.startswith(_TRACED):
        return None
    _, verb = route_and_method(None, method)
    return tracer.begin(verb, {METHOD: verb, REQUEST_ID: request_id}, traceparents=traceparents)


def end_span(
    span: TraceSpan, template: str | None, method: str, status: int, *, latest: LatestRecord
) -> None:
    """End the request's span, with its status and the audit record that was written last for it."""
    route, verb = route_and_method(template, method)
    status = status or NO_ANSWER
    told: dict[str, Value] = {ROUTE: route, STATUS: status}
    if latest.seq:
        told |= {AUDIT_SEQ: latest.seq, AUDIT_DIGEST: latest.receipt.rpartition("/")[2]}
    span.note(told)
    span.end(error=str(status) if status >= _SERVER_ERROR else "", name=f"{verb} {route}")
