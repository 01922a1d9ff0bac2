"""What exports traces: the OpenTelemetry SDK, which is imported only where traces are configured."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from regate_adapters.tracing.settings import Traces
from regate_gateway.config.secret import secret_from_environment
from regate_orchestrator.errors import ConfigurationError
from regate_orchestrator.metrics import Labels, Metrics

if TYPE_CHECKING:
    from regate_adapters.tracing.otel import OtelTracer

_SETTING = "telemetry.traces.headers_env"


def make_tracer(settings: Traces | None, metrics: Metrics) -> OtelTracer | None:
    """Return what begins and exports traces, or None where none are wanted. It must be closed. Raises
    `ConfigurationError`.
    """
    tracer = None if settings is None else _open(settings)
    metrics.reading(
        "counter",
        "regate_trace_spans",
        "Spans of traces, by what became of them.",
        lambda: {} if tracer is None else _counts(tracer),
        ("outcome",),
    )
    return tracer


def check_traces(settings: Traces) -> None:
    """Raise `ConfigurationError` for traces that could not be exported as configured. Connects nowhere."""
    from regate_adapters.tracing.otel import read_headers

    if settings.ca_file is not None and not settings.ca_file.is_file():
        raise ConfigurationError(f"telemetry.traces.ca_file: {settings.ca_file} is not a file")
    read_headers(_headers(settings))


async def examine_traces(settings: Traces) -> str:
    """Return in words what the collector takes. Raises `ConfigurationError`."""
    from regate_adapters.tracing.otel import takes_spans

    if not await takes_spans(settings, headers=_headers(settings)):
        raise ConfigurationError("the collector does not take a batch of spans")
    return "takes traces"


def _open(settings: Traces) -> OtelTracer:
    from regate_adapters.tracing.otel import open_tracer

    check_traces(settings)
    return open_tracer(settings, headers=_headers(settings), version=version("regate"))


def _headers(settings: Traces) -> str:
    variable = settings.headers_env
    return "" if variable is None else secret_from_environment(variable, setting=_SETTING).reveal()


def _counts(tracer: OtelTracer) -> dict[Labels, float]:
    export = tracer.export
    return {("exported",): export.exported, ("failed",): export.failed, ("dropped",): export.dropped}
