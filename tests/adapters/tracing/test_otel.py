"""Traces by OTLP, to a collector over a socket: what it is sent, whom it keeps waiting, what is counted."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from tests.adapters.tracing.trace_collector import running_trace_collector
from tests.patience import PATIENT_SECONDS

from regate_adapters.testing.ports import free_port
from regate_adapters.tracing.otel import OtelTracer, open_tracer, read_headers
from regate_adapters.tracing.settings import Traces
from regate_orchestrator.errors import ConfigurationError
from regate_orchestrator.tracing.spans import (
    ACTION,
    ALLOWED,
    ATTRIBUTES,
    FOUND,
    METHOD,
    REASONS,
    codes,
    plain,
    span_clock,
)

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
THREADS = ("regate-traces-end", "OtelBatchSpanRecordProcessor")
UNSAMPLED = PARENT[:-1] + b"0"


def tracer(url: str, *, headers: str = "", **settings: Any) -> OtelTracer:
    given = {"endpoint": url, "sample": 1.0, "flush_s": 60, "timeout_s": 60} | settings
    return open_tracer(Traces.model_validate(given), headers=headers, version="9.9")


async def test_spans_arrive_with_their_parents_times_and_headers() -> None:
    async with running_trace_collector() as collector:
        tracing = tracer(collector.url, headers="x-key=canary%20key")
        root = tracing.begin("POST", {METHOD: "POST"}, traceparents=[])
        assert root is not None
        began = span_clock()
        root.tell("decide tool", {ALLOWED: False, REASONS: ("a", "b")}, began=began, ended=began + 0.25)
        child = root.begin("retrieval", {FOUND: 2}, kind="client")
        child.count(FOUND, 3)
        child.end(error="vector_store_unavailable")
        child.end()
        root.note({ACTION: "x"})
        root.end(name="POST /v1/responses")
        await tracing.close()
    by_name = {span.name: span for span in collector.spans}
    top, told, inner = by_name["POST /v1/responses"], by_name["decide tool"], by_name["retrieval"]

    assert (top.kind, top.parent_id, top.attributes) == ("server", "", {METHOD: "POST", ACTION: "x"})
    assert (told.parent_id, told.kind) == (top.span_id, "internal")
    assert told.seconds == pytest.approx(0.25, abs=1e-6)
    assert told.attributes == {ALLOWED: False, REASONS: ["a", "b"]}
    assert (inner.is_error, inner.attributes) == (True, {FOUND: 5, "error.type": "vector_store_unavailable"})
    assert {span.trace_id for span in collector.spans} == {root.trace_id}
    assert (len(collector.spans), tracing.export.exported) == (3, 3)
    assert collector.headers[0]["x-key"] == "canary key"
    assert collector.resources[0]["service.name"] == "regate"


async def test_attributes_that_are_not_listed_are_not_exported_and_long_ones_are_cut() -> None:
    async with running_trace_collector() as collector:
        tracing = tracer(collector.url)
        root = tracing.begin("GET", {"gen_ai.input.messages": "canary", ACTION: "a" * 1_000}, traceparents=[])
        assert root is not None
        root.end()
        await tracing.close()

    assert collector.spans[0].attributes == {ACTION: "a" * 256}
    assert len(ATTRIBUTES) > 40


@pytest.mark.parametrize(
    ("trusted", "sent", "sampled", "goes_on"),
    [
        (False, [PARENT], True, False),
        (True, [PARENT], True, True),
        (True, [UNSAMPLED], False, False),
        (True, [PARENT, PARENT], True, False),
        (True, [b"00-zz"], True, False),
    ],
)
async def test_trace_of_a_client_is_gone_on_with_where_that_is_permitted(
    trusted: bool, sent: list[bytes], sampled: bool, goes_on: bool
) -> None:
    tracing = tracer(f"http://127.0.0.1:{free_port()}/v1/traces", trust_incoming=trusted, flush_s=0.01)
    span = tracing.begin("GET", {}, traceparents=sent)
    await tracing.close()

    assert (span is not None) is sampled
    assert (span is not None and span.trace_id == PARENT[3:35].decode()) is goes_on


async def test_share_of_requests_is_traced() -> None:
    tracing = tracer(f"http://127.0.0.1:{free_port()}/v1/traces", sample=0.1, flush_s=0.01)
    traced = sum(tracing.begin("GET", {}, traceparents=[]) is not None for _ in range(5_000))
    await tracing.close()

    assert 300 < traced < 700  # ten standard deviations


async def test_collector_that_stalls_keeps_nobody_waiting_and_what_has_no_place_is_counted() -> None:
    async with running_trace_collector() as collector:
        collector.stalls = asyncio.Event()
        tracing = tracer(collector.url, queue=64, flush_s=0.2)
        began = time.perf_counter()
        for _ in range(1_000):
            span = tracing.begin("GET", {}, traceparents=[])
            assert span is not None
            span.end()
        put = time.perf_counter() - began
        dropped = tracing.export.dropped
        began = time.perf_counter()
        await tracing.close()
        closing = time.perf_counter() - began
        collector.stalls.set()
        async with asyncio.timeout(PATIENT_SECONDS):
            while any(thread.name in THREADS for thread in threading.enumerate()):
                await asyncio.sleep(0.01)

    assert dropped == 1_000 - 64
    assert tracing.export.dropped == 1_000
    assert (put < 10, 0.19 < closing < 10) == (True, True)


async def test_spans_that_a_collector_refuses_are_counted_and_its_words_are_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running_trace_collector() as collector:
        collector.status = 400
        tracing = tracer(collector.url, headers="authorization=Bearer canary")
        span = tracing.begin("GET", {}, traceparents=[])
        assert span is not None
        span.end()
        await tracing.close()
    ours = [record for record in caplog.records if record.name.startswith("regate")]

    assert (tracing.export.failed, tracing.export.exported) == (1, 0)
    assert [record.message for record in ours] == ["traces_not_exported"]


async def test_a_collector_that_redirects_is_not_followed() -> None:
    async with running_trace_collector() as collector:
        collector.status = 307
        tracing = tracer(collector.url)
        span = tracing.begin("GET", {}, traceparents=[])
        assert span is not None
        span.end()
        await tracing.close()

    assert (len(collector.bodies), tracing.export.failed) == (1, 1)


@pytest.mark.parametrize("text", ["canary", "a=b,canary", "=canary", "a=canary%0d%0ab", "a b=canary"])
def test_headers_that_are_none_are_refused_without_their_words(text: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read_headers(text)

    assert "canary" not in refused.value.message


def test_names_and_codes_are_told_and_texts_are_not() -> None:
    assert [plain(one) for one in ("gpt-4o", "org/model:1", "Tell me a secret", "", 7, "a" * 129)] == [
        "gpt-4o",
        "org/model:1",
        *["other"] * 4,
    ]
    assert codes(["label_restricted: board", "not_shared_with_principal", "tenant is suspended"]) == (
        "label_restricted",
        "not_shared_with_principal",
        "other",
    )


def test_nothing_of_opentelemetry_is_imported_where_nothing_is_traced() -> None:
    script = """
import sys
import regate_gateway.app, regate_gateway.composition.wiring, regate_gateway.composition.checking
from regate_gateway.composition.outside.tracing import make_tracer
from regate_orchestrator.metrics import Metrics
assert make_tracer(None, Metrics()) is None
print(sorted(name for name in sys.modules if name.startswith("opentelemetry")))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout == "[]\n"
