"""Figures: counted as plain numbers, shown in Prometheus' format, under labels that no client can choose."""

from __future__ import annotations

import socket
import subprocess
import sys
from dataclasses import dataclass, field

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Receive, Scope, Send
from tests.gateway.conftest import Handler, answer, application, listen

from regate_adapters.opa.client import OpaAddress
from regate_adapters.opa.engine import OpaEngine
from regate_gateway.http.middleware import Edge
from regate_gateway.http.server import Running
from regate_gateway.telemetry.metrics import Metrics, Watched
from regate_orchestrator.errors import InvalidRequest, PolicyUnavailable


@dataclass
class Plans:
    hits: int = 5
    misses: int = 2
    revision_seen: str = "r1"


@dataclass
class Admission:
    mismatches: int = 3


@dataclass
class Audit:
    lost: int = 4


@dataclass
class Reach:
    found: dict[str, str] = field(
        default_factory=lambda: {"main": "ok", "spare": "unreachable", "own": "denied", "new": "unknown"}
    )

    def reach(self) -> dict[str, str]:
        return self.found


@dataclass
class Sweeps:
    removed: dict[str, int] = field(default_factory=lambda: {"orphaned_chunks": 5, "unknown_chunks": 0})


@dataclass
class Loose:
    waiting: int = 7


async def figures(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The figures by name and labels, read as Prometheus reads them."""
    text, content_type = await metrics.exposition()
    assert content_type.startswith("text/plain")
    families = list(text_string_to_metric_families(text.decode()))
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def sample(name: str, **labels: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    return name, tuple(sorted(labels.items()))


async def test_decisions_and_candidates_are_shown_as_they_were_counted() -> None:
    metrics = Metrics()
    metrics.decided("chunk", allowed=True, count=7)
    metrics.decided("chunk", allowed=False, count=2)
    metrics.decided("tool.result", allowed=True)
    metrics.examined(admitted=7, denied=2, gone=1)
    metrics.examined(admitted=1, denied=0, gone=0)
    shown = await figures(metrics)

    assert shown[sample("regate_decisions_total", point="chunk", allowed="true")] == 7
    assert shown[sample("regate_decisions_total", point="chunk", allowed="false")] == 2
    assert shown[sample("regate_decisions_total", point="tool.result", allowed="true")] == 1
    assert [
        shown[sample("regate_retrieval_candidates_total", outcome=outcome)]
        for outcome in ("admitted", "denied", "gone")
    ] == [8, 2, 1]


async def test_what_counts_for_itself_is_read_at_the_scrape() -> None:
    metrics, plans = Metrics(), Plans()
    metrics.watch(Watched(plans, Admission(), Audit(), Reach(), Sweeps(), Loose()))
    plans.hits = 6
    shown = await figures(metrics)

    assert shown[sample("regate_plan_cache_total", outcome="hit")] == 6
    assert shown[sample("regate_plan_cache_total", outcome="miss")] == 2
    assert shown[sample("regate_pushdown_mismatch_total")] == 3
    assert shown[sample("regate_audit_lost_total")] == 4
    assert shown[sample("regate_policy_info", revision="r1")] == 1
    assert [
        shown[sample("regate_garbage_collected_total", collector=name)]
        for name in ("orphaned_chunks", "unknown_chunks")
    ] == [5, 0]
    assert shown[sample("regate_orphaned_chunks")] == 7
    reached = {
        labels: value for (name, labels), value in shown.items() if name == "regate_upstream_reachable"
    }
    denied = {labels: value for (name, labels), value in shown.items() if name == "regate_upstream_denied"}
    assert reached == {(("upstream", "main"),): 1, (("upstream", "spare"),): 0, (("upstream", "own"),): 1}
    assert denied == {(("upstream", "main"),): 0, (("upstream", "spare"),): 0, (("upstream", "own"),): 1}


async def test_only_the_present_revision_is_shown() -> None:
    metrics, plans = Metrics(), Plans()
    metrics.watch(Watched(plans, Admission(), Audit(), Reach(), Sweeps(), Loose()))
    seen = []
    for plans.revision_seen in ("r1", "r2", ""):
        seen.append([labels for name, labels in await figures(metrics) if name == "regate_policy_info"])

    assert seen == [[(("revision", "r1"),)], [(("revision", "r2"),)], []]


async def test_what_an_alarm_watches_is_there_before_it_first_happens() -> None:
    metrics = Metrics()
    metrics.watch(Watched(Plans(0, 0, ""), Admission(0), Audit(0), Reach(), Sweeps(), Loose()))
    shown = await figures(metrics)
    watched = [sample("regate_pushdown_mismatch_total"), sample("regate_audit_lost_total")]
    watched += [sample("regate_garbage_collected_total", collector="unknown_chunks")]
    watched += [
        sample("regate_policy_unavailable_total", cause=cause)
        for cause in ("timeout", "unreachable", "answer")
    ]

    assert [shown[one] for one in watched] == [0] * 6


async def test_durations_fall_into_their_buckets() -> None:
    metrics = Metrics()
    for seconds in (0.0001, 0.0002, 0.003, 60):
        metrics.asked("plan", seconds=seconds)
    shown = await figures(metrics)

    below = [
        shown[sample("regate_decision_seconds_bucket", kind="plan", le=bound)]
        for bound in ("0.0002", "0.002", "0.005", "2.5", "+Inf")
    ]
    assert below == [2, 2, 3, 3, 4]
    assert shown[sample("regate_decision_seconds_sum", kind="plan")] == pytest.approx(60.0033)


async def test_process_figures_are_shown_too() -> None:
    shown = await figures(Metrics())

    assert any(name.startswith(("process_", "python_")) for name, _ in shown)


# ---------------------------------------------------------------- why OPA gave no answer


async def cause(url: str, *, deadline_s: float = 30) -> str:
    """The cause that is counted when the engine there is asked."""
    metrics = Metrics()
    async with OpaEngine(OpaAddress(url), schemas={}, deadline_s=deadline_s) as engine:
        with pytest.raises(PolicyUnavailable) as raised:
            await engine.ask("regate/route/allow", {})
    metrics.unanswered(raised.value)
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
    metrics.served(None, "GET", 0, seconds=1)

    assert (await figures(metrics))[
        sample("regate_requests_total", route="unlisted", method="GET", status="499")
    ] == 1


# ---------------------------------------------------------------- what it costs


def test_neither_the_start_nor_a_request_imports_the_prometheus_library() -> None:
    script = """
import sys
import regate_gateway.app, regate_gateway.telemetry.metrics
metrics = regate_gateway.telemetry.metrics.Metrics()
metrics.served("/", "GET", 200, seconds=1)
metrics.decided("chunk", allowed=True)
print("prometheus_client" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout == "False\n"
