"""`OtelTracer`: the tracing port by the OpenTelemetry SDK: its ids, its sampling, its spans and its exporter.

A span is collected as plain values, and becomes the SDK's `ReadableSpan` when it ends: the SDK's own span for
recording costs more than ten times as much, for what nobody here needs (events, links, locks, limits). No
global provider is set, so a library that traces for itself exports nothing through this.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Final, Self
from urllib.parse import unquote

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    format_trace_id,
    get_current_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from regate_adapters.tracing.exporting import BoundedExport
from regate_adapters.tracing.settings import Traces
from regate_orchestrator.errors import ConfigurationError
from regate_orchestrator.tracing.spans import ATTRIBUTES, ERROR, Attributes, Kind, Value, span_clock

_KINDS: Final[Mapping[Kind, SpanKind]] = {
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "internal": SpanKind.INTERNAL,
}
_SCOPE: Final = InstrumentationScope("regate")
_UNSET: Final = Status(StatusCode.UNSET)
_FAILED: Final = Status(StatusCode.ERROR)
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_IDS: Final = RandomIdGenerator()
_PROPAGATOR: Final = TraceContextTextMapPropagator()
_MAX_TEXT: Final = 256
_HEADERS_ENV: Final = "telemetry.traces.headers_env"
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]{1,128}")
_HEADER_VALUE: Final = re.compile(r"[ -~]{1,8192}")


class OtelTracer:
    """Begins traces, and exports their spans. `close` must be called at the end."""

    def __init__(self, export: BoundedExport, *, settings: Traces, version: str) -> None:
        self.export = export
        self._flush_s = settings.flush_s
        self.resource = Resource.create(
            {"service.name": "regate", "service.version": version, "service.instance.id": str(uuid.uuid4())}
        )
        self._bound = TraceIdRatioBased.get_bound_for_rate(settings.sample)
        self._trust_incoming = settings.trust_incoming

    def begin(self, name: str, attributes: Attributes, *, traceparents: Sequence[bytes]) -> OtelSpan | None:
        """See `Tracer.begin`. A trusted parent decides whether its request is sampled (W3C Trace
        Context, section 3.2.2.5); else the share does, by the new trace's id.
        """
        if self._trust_incoming and (parent := _parent_in(traceparents)) is not None:
            if not parent.trace_flags.sampled:
                return None
            return OtelSpan(self, name, attributes, parent.trace_id, parent, SpanKind.SERVER)
        trace_id = _IDS.generate_trace_id()
        if trace_id & TraceIdRatioBased.TRACE_ID_LIMIT >= self._bound:
            return None
        return OtelSpan(self, name, attributes, trace_id, None, SpanKind.SERVER)

    async def close(self) -> None:
        """Export what is left, for as long as the settings let that take."""
        await self.export.close(within_s=self._flush_s)


class OtelSpan:
    """A span under way. See `TraceSpan`."""

    __slots__ = (
        *("_attributes", "_began", "_context", "_ended", "_epoch_ns", "_kind", "_name", "_parent", "_tracer"),
    )

    def __init__(
        self,
        tracer: OtelTracer,
        name: str,
        attributes: Attributes,
        trace_id: int,
        parent: SpanContext | None,
        kind: SpanKind,
        *,
        began: float | None = None,
        epoch_ns: int | None = None,
    ) -> None:
        self._tracer = tracer
        self._name = name
        self._attributes: dict[str, Value] = dict(attributes)
        self._context = SpanContext(trace_id, _IDS.generate_span_id(), is_remote=False, trace_flags=_SAMPLED)
        self._parent = parent
        self._kind = kind
        self._began = span_clock() if began is None else began
        self._ended = False
        # Of a whole trace by one look at the calendar's clock, which may be set in the middle of it
        self._epoch_ns = time.time_ns() - int(span_clock() * 1e9) if epoch_ns is None else epoch_ns

    @property
    def trace_id(self) -> str:
        """Return the id of its trace."""
        return format_trace_id(self._context.trace_id)

    def begin(self, name: str, attributes: Attributes, *, kind: Kind = "internal") -> Self:
        """Return a span below this one that begins now."""
        return type(self)(self._tracer, name, attributes, self._context.trace_id, self._context, _KINDS[kind])

    def tell(
        self,
        name: str,
        attributes: Attributes,
        *,
        began: float,
        ended: float | None = None,
        error: str = "",
    ) -> None:
        """Tell of a span below this one that is over."""
        self._below(name, attributes, SpanKind.INTERNAL, began).end(error=error, at=ended)

    def note(self, attributes: Attributes) -> None:
        """Add attributes."""
        self._attributes.update(attributes)

    def count(self, name: str, number: int) -> None:
        """Add to a number among the attributes."""
        earlier = self._attributes.get(name, 0)
        self._attributes[name] = number + (earlier if isinstance(earlier, int) else 0)

    def end(self, *, error: str = "", name: str = "", at: float | None = None) -> None:
        """End the span, now or as of then."""
        if self._ended:
            return
        self._ended = True
        ended = span_clock() if at is None else at
        if error:
            self._attributes[ERROR] = error
        self._tracer.export.put(
            ReadableSpan(
                (name or self._name)[:_MAX_TEXT],
                self._context,
                self._parent,
                self._tracer.resource,
                _listed(self._attributes),
                kind=self._kind,
                status=_FAILED if error else _UNSET,
                start_time=self._epoch_ns + int(self._began * 1e9),
                end_time=self._epoch_ns + int(ended * 1e9),
                instrumentation_scope=_SCOPE,
            )
        )

    def _below(self, name: str, attributes: Attributes, kind: SpanKind, began: float | None) -> Self:
        trace_id = self._context.trace_id
        return type(self)(
            self._tracer,
            name,
            attributes,
            trace_id,
            self._context,
            kind,
            began=began,
            epoch_ns=self._epoch_ns,
        )


def open_tracer(settings: Traces, *, headers: str, version: str) -> OtelTracer:
    """Return a tracer that exports as the settings say; `headers` are as OTLP has them in
    `OTEL_EXPORTER_OTLP_HEADERS`. Raises `ConfigurationError` for headers that are none.
    """
    export = BoundedExport(_exporter(settings, headers), most=settings.queue)
    return OtelTracer(export, settings=settings, version=version)


async def takes_spans(settings: Traces, *, headers: str) -> bool:
    """Return whether the collector takes a batch, which is empty. Raises as `open_tracer` does."""
    exporter = _exporter(settings, headers)
    try:
        return await asyncio.to_thread(exporter.export, ()) is SpanExportResult.SUCCESS
    finally:
        exporter.shutdown()  # type: ignore[no-untyped-call]  # the SDK's


def _exporter(settings: Traces, headers: str) -> OTLPSpanExporter:
    session = requests.Session()
    session.trust_env = False  # no proxy, and no password of a .netrc, that the settings do not name
    session.hooks["response"].append(_refuse_redirect)
    return OTLPSpanExporter(
        endpoint=settings.endpoint,
        certificate_file=None if settings.ca_file is None else str(settings.ca_file),
        headers=read_headers(headers),
        timeout=settings.timeout_s,
        session=session,
    )


def read_headers(text: str) -> dict[str, str]:
    """Return the headers in a text such as `name=value,name=value`, with values as in a URL. Raises
    `ConfigurationError`. Not the SDK's reader, which logs what it does not understand.
    """
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, is_there, value = part.partition("=")
        name, value = name.strip().lower(), unquote(value.strip())
        if not is_there or not _HEADER.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise ConfigurationError(f"{_HEADERS_ENV}: must hold headers as name=value,name=value")
        found[name] = value
    return found


def _refuse_redirect(response: requests.Response, **_: object) -> None:
    """Have an answer that points elsewhere be a failure: the SDK would take it for a success."""
    if response.is_redirect:
        response.close()
        raise requests.TooManyRedirects


def _parent_in(traceparents: Sequence[bytes]) -> SpanContext | None:
    """Return the parent that a request names; None where it names none, or several, or none that is valid."""
    if len(traceparents) != 1:
        return None
    carrier = {"traceparent": traceparents[0].decode("latin-1")}
    parent = get_current_span(_PROPAGATOR.extract(carrier)).get_span_context()
    return parent if parent.is_valid else None


def _listed(attributes: Mapping[str, Value]) -> dict[str, Value]:
    """Return those that may be exported, none of them long."""
    return {
        name: value[:_MAX_TEXT] if isinstance(value, str) else value
        for name, value in attributes.items()
        if name in ATTRIBUTES
    }
