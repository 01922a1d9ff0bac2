"""Figures: counted as plain numbers, shown in Prometheus' format, under labels that no client can choose."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Receive, Scope, Send
from tests.gateway.conftest import Handler, answer, application, listen

from regate_adapters.opa.client import OpaAddress
from regate_adapters.opa.engine import OpaEngine
from regate_gateway.composition.outside.tracing import make_tracer
from regate_gateway.composition.readings import read_upstreams
from regate_gateway.composition.wiring import open_services
from regate_gateway.config.settings import Settings
from regate_gateway.http.middleware import Edge
from regate_gateway.http.server import Running
from regate_gateway.telemetry.exposition import Figure, exposition, figures_of, together
from regate_gateway.telemetry.requests import RequestMetrics
from regate_gateway.workers.supervisor import WorkerMetrics
from regate_orchestrator.authz.measuring import DecisionMetrics
from regate_orchestrator.errors import InvalidRequest, PolicyUnavailable
from regate_orchestrator.metrics import Metrics


async def figures(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The figures by name and labels, read as Prometheus reads them."""
    text, content_type = exposition(await figures_of(metrics))
    assert content_type.startswith("text/plain")
    families = list(text_string_to_metric_families(text.decode()))
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def sample(name: str, **labels: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    return name, tuple(sorted(labels.items()))


async def test_counters_are_shown_by_their_labels_and_from_nought_on() -> None:
    metrics = Metrics()
    counter = metrics.counter("regate_found", "What was found.", ("point", "of"), rows=[("rare", "x")])
    counter.add("chunk", "x", count=7)
    counter.add("chunk", "x")
    counter.add("tool.result", "y")
    shown = await figures(metrics)

    assert shown[sample("regate_found_total", point="chunk", of="x")] == 8
    assert shown[sample("regate_found_total", point="tool.result", of="y")] == 1
    assert shown[sample("regate_found_total", point="rare", of="x")] == 0


async def test_readings_are_read_at_each_scrape() -> None:
    metrics = Metrics()
    kept: dict[tuple[str, ...], float] = {}
    metrics.reading("gauge", "regate_info", "The revision.", lambda: kept, ("revision",))
    metrics.reading("counter", "regate_lost", "What was lost.", lambda: {(): len(kept)})
    seen = []
    for revision in ("r1", "r2", ""):
        kept.clear()
        kept.update({(revision,): 1} if revision else {})
        shown = await figures(metrics)
        revisions = [labels for name, labels in shown if name == "regate_info"]
        seen.append((revisions, shown[sample("regate_lost_total")]))

    assert seen == [([(("revision", "r1"),)], 1), ([(("revision", "r2"),)], 1), ([], 0)]


async def test_durations_fall_into_their_buckets() -> None:
    metrics = Metrics()
    bounds = (0.0002, 0.002, 0.005, 2.5)
    waits = metrics.histogram("regate_wait", "Time.", ("kind",), bounds=bounds, rows=[("ask",)])
    for seconds in (0.0001, 0.0002, 0.003, 60):
        waits.observe(seconds, "plan")
    shown = await figures(metrics)

    below = [
        shown[sample("regate_wait_bucket", kind="plan", le=bound)] for bound in (*map(str, bounds), "+Inf")
    ]
    assert below == [2, 2, 3, 3, 4]
    assert shown[sample("regate_wait_sum", kind="plan")] == pytest.approx(60.0033)
    assert shown[sample("regate_wait_count", kind="ask")] == 0


def test_a_metric_is_defined_once() -> None:
    metrics = Metrics()
    metrics.counter("regate_found", "What was found.")
    with pytest.raises(ValueError, match="defined twice"):
        metrics.counter("regate_found", "Found.")


async def test_figures_of_processes_are_added_up_but_those_that_are_no_sums() -> None:
    each = []
    for number in (1.0, 3.0):
        metrics = Metrics()
        counter = metrics.counter("asked", "Asked.", ("who",))
        counter.add("both", count=2)
        counter.add(f"only {number:.0f}")
        metrics.histogram("took", "Took.", (), bounds=(1.0,)).observe(number)
        metrics.reading("gauge", "held", "Held.", lambda number=number: {(): number})
        metrics.reading("gauge", "reached", "Reached.", lambda number=number: {(): number}, across="lowest")
        metrics.reading("gauge", "waiting", "Waiting.", lambda number=number: {(): number}, across="highest")
        each.append([one.document() for one in await figures_of(metrics)])
    heard = [tuple(map(Figure.of_document, json.loads(json.dumps(one)))) for one in each]
    text, _ = exposition(together(heard))
    shown = {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(text.decode())
        for one in family.samples
    }

    assert [shown[sample("asked_total", who=who)] for who in ("both", "only 1", "only 3")] == [4, 1, 1]
    assert [shown[sample("took_bucket", le=bound)] for bound in ("1.0", "+Inf")] == [1, 2]
    assert (shown[sample("took_count")], shown[sample("took_sum")]) == (2, 4)
    assert [shown[sample(name)] for name in ("held", "reached", "waiting")] == [4, 1, 3]
    assert (
        shown[sample("process_start_time_seconds")]
        == next(iter(one for one in heard[0] if one.name == "process_start_time_seconds")).samples[
            ("process_start_time_seconds", ())
        ]
    )


# ---------------------------------------------------------------- the gateway's own

TYPES = {
    "regate_decisions": "counter",
    "regate_decision_seconds": "histogram",
    "regate_request_seconds": "histogram",
    "regate_pushdown_mismatch": "counter",
    "regate_policy_info": "gauge",
    "regate_orphaned_chunks": "gauge",
    "regate_database_connections": "gauge",
    "regate_upstream_reachable": "gauge",
}


def documented() -> set[tuple[str, tuple[str, ...]]]:
    """The names and labels in the table of the documentation."""
    page = (Path(__file__).parents[2] / "docs/metrics.md").read_text(encoding="utf-8")
    table = page.partition("\n## All metrics")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| `regate_")]
    return {
        (name.strip(" `"), tuple(re.findall(r"`([a-z]+)`", labels.partition(":")[0])))
        for name, labels in rows
    }


async def test_metrics_of_a_gateway_are_those_of_the_documentation(tmp_path: Path) -> None:
    metrics = Metrics()
    RequestMetrics(metrics)
    make_tracer(None, metrics)
    WorkerMetrics(metrics, serving=lambda: 0)
    settings = Settings.model_validate(
        {
            "data_dir": tmp_path,
            "vector": {"stores": {"main": {"kind": "memory"}}},
            "upstreams": [{"name": "silent", "base_url": "http://127.0.0.1:1/v1"}],
            "ingestion": {"context": {"upstream": "silent", "model": "small"}},
            "redis": {"url": "redis://127.0.0.1:1/0"},  # one that does not answer is no reason not to start
        }
    )
    async with AsyncExitStack() as stack:
        await open_services(stack, settings, metrics)
        text, _ = exposition(await figures_of(metrics))
    families = {one.name: one for one in text_string_to_metric_families(text.decode())}
    shown = {
        (name + ("_total" if families[name].type == "counter" else ""), metric.labels)
        for name, metric in metrics.all.items()
    }

    assert shown == documented()
    assert {name: families[name].type for name in TYPES} == TYPES
    assert {families[name].documentation for name in metrics.all} == {
        metric.says for metric in metrics.all.values()
    }


async def test_what_an_alarm_watches_is_there_before_it_first_happens(tmp_path: Path) -> None:
    metrics = Metrics()
    settings = Settings.model_validate(
        {"data_dir": tmp_path, "vector": {"stores": {"main": {"kind": "memory"}}}}
    )
    async with AsyncExitStack() as stack:
        await open_services(stack, settings, metrics)
        shown = await figures(metrics)
    watched = [sample("regate_pushdown_mismatch_total"), sample("regate_audit_lost_total")]
    watched += [sample("regate_garbage_collected_total", collector="unknown_chunks")]
    watched += [
        sample("regate_policy_unavailable_total", cause=cause)
        for cause in ("timeout", "unreachable", "answer")
    ]

    assert [shown[one] for one in watched] == [0] * 6


async def test_upstreams_that_were_tried_are_told_apart() -> None:
    metrics = Metrics()
    reach = {"main": "ok", "spare": "unreachable", "own": "denied", "new": "unknown"}
    read_upstreams(metrics, lambda: reach)
    shown = {
        key: value for key, value in (await figures(metrics)).items() if key[0].startswith("regate_upstream")
    }

    assert shown == {
        sample("regate_upstream_reachable", upstream="main"): 1,
        sample("regate_upstream_reachable", upstream="spare"): 0,
        sample("regate_upstream_reachable", upstream="own"): 1,
        sample("regate_upstream_denied", upstream="main"): 0,
        sample("regate_upstream_denied", upstream="spare"): 0,
        sample("regate_upstream_denied", upstream="own"): 1,
    }


async def test_process_figures_are_shown_too() -> None:
    shown = await figures(Metrics())

    assert any(name.startswith(("process_", "python_")) for name, _ in shown)


# ---------------------------------------------------------------- why OPA gave no answer


async def cause(url: str, *, deadline_s: float = 30) -> str:
    """The cause that is counted when the engine there is asked."""
    metrics = Metrics()
    measures = DecisionMetrics(metrics)
    async with OpaEngine(OpaAddress(url), schemas={}, deadline_s=deadline_s) as engine:
        with pytest.raises(PolicyUnavailable), measures.waiting("ask"):
            await engine.ask("regate/route/allow", {})
    (counted,) = [
        labels
        for (name, labels), value in (await figures(metrics)).items()
        if name == "regate_policy_unavailable_total" and value
    ]
    return dict(counted)["cause"]


async def test_engine_that_does_not_answer_in_time_is_counted_as_late() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert await cause(f"http://127.0.0.1:{silent.getsockname()[1]}", deadline_s=0.05) == "timeout"


async def test_engine_that_is_not_there_is_counted_as_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    assert await cause(f"http://127.0.0.1:{port}") == "unreachable"


@pytest.mark.parametrize(
    ("status", "body"), [(500, b"{}"), (200, b"<html>"), (200, b"[]"), (200, b'{"result": true}')]
)
async def test_engine_that_answers_with_something_else_is_counted_as_that(status: int, body: bytes) -> None:
    async def opa(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, body, status=status)

    async with Running(Edge(application(opa), access_log=False), listen()) as server:
        assert await cause(server.url) == "answer"


# ---------------------------------------------------------------- requests


async def requested(
    handler: Handler, method: str, path: str
) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The figures after one request over a socket."""
    metrics = Metrics()
    async with (
        Running(Edge(application(handler), access_log=False, metrics=metrics), listen()) as server,
        aiohttp.ClientSession() as session,
        session.request(method, server.url + path) as response,
    ):
        await response.read()
    return await figures(metrics)


async def test_request_is_counted_under_its_template_and_never_under_its_path() -> None:
    async def found(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["path_template"] = "/v1/files/{file_id}"
        await answer(send, status=201)

    shown = await requested(found, "GET", "/v1/files/file-of-alice?tenant=acme")

    assert (
        shown[sample("regate_requests_total", route="/v1/files/{file_id}", method="GET", status="201")] == 1
    )
    assert shown[sample("regate_request_seconds_count", route="/v1/files/{file_id}", method="GET")] == 1
    assert not any("alice" in repr(key) or "acme" in repr(key) for key in shown)


async def test_what_is_not_listed_shares_one_label_whatever_its_path_and_method() -> None:
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        raise InvalidRequest("No.")

    shown = await requested(refuse, "PROPFIND", "/coffee/alice")

    assert [dict(labels) for name, labels in shown if name == "regate_requests_total"] == [
        {"route": "unlisted", "method": "other", "status": "400"}
    ]


async def test_request_that_was_never_answered_is_counted_as_left() -> None:
    metrics = Metrics()
    RequestMetrics(metrics).served(None, "GET", 0, seconds=1)

    assert (await figures(metrics))[
        sample("regate_requests_total", route="unlisted", method="GET", status="499")
    ] == 1


# ---------------------------------------------------------------- what it costs


def test_neither_the_start_nor_a_request_imports_the_prometheus_library() -> None:
    script = """
import sys
import regate_gateway.app, regate_gateway.composition.wiring
from regate_gateway.telemetry.requests import RequestMetrics
from regate_orchestrator.authz.measuring import DecisionMetrics
from regate_orchestrator.metrics import Metrics
metrics = Metrics()
RequestMetrics(metrics).served("/", "GET", 200, seconds=1)
DecisionMetrics(metrics).decided("chunk", allowed=True)
print("prometheus_client" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout == "False\n"
