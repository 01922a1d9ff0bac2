"""Traces: what was done for a request, when, and how it came out, as spans.

The core tells of its work through `TraceSpan` and knows nothing of who listens; `regate_adapters.tracing`
brings spans to a collector. `Context.span` is None where a request is not traced, and always where tracing is
off: that None is the null implementation, and to look for it is all that tracing costs then.

A span holds names, numbers and identifiers, from a closed table of attributes. Never a prompt, a text, an
argument, a file's name, a token, or a header's value (I11). What comes from outside goes through `plain`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Final, Literal, Protocol, TypeAlias

from regate_orchestrator.errors import RegateError

Value: TypeAlias = str | bool | int | float | Sequence[str]
Attributes: TypeAlias = Mapping[str, Value]
Kind: TypeAlias = Literal["server", "client", "internal"]

span_clock = time.perf_counter
"""The clock that the times of spans are read from, in seconds."""

REQUEST_ID: Final = "regate.request_id"
RESPONSE_ID: Final = "regate.response_id"
PRINCIPAL: Final = "regate.principal"
AUDIT_DIGEST: Final = "regate.audit.digest"
"""The digest of the line of the request's latest audit record."""
AUDIT_SEQ: Final = "regate.audit.seq"

DECISION_ID: Final = "regate.decision.id"
POINT: Final = "regate.decision.point"
ACTION: Final = "regate.decision.action"
PHASE: Final = "regate.decision.phase"
ALLOWED: Final = "regate.decision.allowed"
REASONS: Final = "regate.decision.reasons"
REMEMBERED: Final = "regate.decision.remembered"
ADMITTED_COUNT: Final = "regate.decision.admitted"
DENIED_COUNT: Final = "regate.decision.denied"
REVISION: Final = "regate.policy.revision"

STORE: Final = "gen_ai.data_source.id"
ENGINE: Final = "regate.retrieval.engine"
FOUND: Final = "regate.retrieval.found"
ADMITTED: Final = "regate.retrieval.admitted"
DENIED: Final = "regate.retrieval.denied"
GONE: Final = "regate.retrieval.gone"

TOOL_KIND: Final = "regate.tool.kind"
TOOL_SERVER: Final = "regate.tool.server_label"
OUTCOME: Final = "regate.outcome"
GUARD: Final = "regate.guard.name"
GUARD_STEP: Final = "regate.guard.step"
UPSTREAM: Final = "regate.upstream"

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
RESPONSE_MODEL: Final = "gen_ai.response.model"
STREAM: Final = "gen_ai.request.stream"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHED_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_TYPE: Final = "gen_ai.tool.type"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
METHOD: Final = "http.request.method"
ROUTE: Final = "http.route"
STATUS: Final = "http.response.status_code"
ERROR: Final = "error.type"

ATTRIBUTES: Final = frozenset(
    value
    for name, value in globals().items()
    if name.isupper()
    and isinstance(value, str)
    and value.startswith(("regate.", "gen_ai.", "http.", "error."))
)
"""All attributes that a span may have; others must not be exported."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}")
_CODE: Final = re.compile(r"([a-z][a-z0-9_]{0,63})(?::|$)")
_OTHER: Final = "other"


class TraceSpan(Protocol):
    """One span. Whoever begins one must end it, whatever happens. No method raises, or waits."""

    @property
    def trace_id(self) -> str:
        """The id of its trace, as 32 hexadecimal digits (W3C Trace Context, section 3.2.2.3)."""
        ...

    def begin(self, name: str, attributes: Attributes, *, kind: Kind = "internal") -> TraceSpan:
        """Return a span below this one that begins now."""
        ...

    def tell(
        self,
        name: str,
        attributes: Attributes,
        *,
        began: float,
        ended: float | None = None,
        error: str = "",
    ) -> None:
        """Tell of a span below this one that is over. The times are of `span_clock`; without `ended` it
        ended now.
        """
        ...

    def note(self, attributes: Attributes) -> None:
        """Add attributes to the span, in place of earlier ones of the same name."""
        ...

    def count(self, name: str, number: int) -> None:
        """Add to a number among the attributes, which begins at 0."""
        ...

    def end(self, *, error: str = "", name: str = "") -> None:
        """End the span now; with an `error` as one that failed for that, with a `name` as one of that name.
        What is done to it later has no effect, but that spans may still be begun below it.
        """
        ...


class Tracer(Protocol):
    """Whoever begins traces."""

    def begin(self, name: str, attributes: Attributes, *, traceparents: Sequence[bytes]) -> TraceSpan | None:
        """Return the span of a request that begins now, or None for one that is not sampled.

        `traceparents` are the values of the headers of that name. They must be believed only where the
        operator permits it, and only where there is one.
        """
        ...


def plain(value: object) -> str:
    """Return a name that comes from outside (of a model, a tool, a server), or `other` for what is none: a
    text, a blank, or something longer than 128 characters.
    """
    return value if isinstance(value, str) and _NAME.fullmatch(value) else _OTHER


def codes(reasons: Sequence[str]) -> tuple[str, ...]:
    """Return the codes of a policy's reasons, without their texts, which may hold names of things."""
    found = (_CODE.match(reason) for reason in reasons)
    return tuple(sorted({_OTHER if code is None else code[1] for code in found}))


def error_type(error: BaseException) -> str:
    """Return what an error is called on a span (`error.type`): its code, or its class. Never its words."""
    code = getattr(error, "code", None) if isinstance(error, RegateError) else None
    return plain(code or type(error).__name__)
