"""A request is told of as a trace, and nothing that anybody wrote is in it: through the whole gateway, to a
collector over a socket.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from tests.adapters.tracing.trace_collector import Seen, TraceCollector, running_trace_collector
from tests.deployments import only_on
from tests.e2e.conftest import NO_TLS, ScriptedUpstream, World, text, tool_call
from tests.e2e.guarding import EVERYWHERE
from tests.e2e.mcp_world import OpenTickets, Tickets, calling, offering
from tests.e2e.mcp_world import opened as opened
from tests.e2e.mcp_world import tickets as tickets
from tests.e2e.test_retrieval import ingest

from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running
from regate_gateway.telemetry.logs import JsonLines

pytestmark = only_on("embedded")

CANARY = "canary7f3a"
"""In every text, name, argument, header and secret of the session."""
TENANT = f"tenant-{CANARY}"
IN_PATHS = "path9c1d"
"""In addresses, which the access log shows where no route serves them."""
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def collector() -> AsyncIterator[TraceCollector]:
    async with running_trace_collector() as running:
        yield running


@dataclass
class Session:
    """What a session left behind."""

    collector: TraceCollector
    logs: list[str]
    metrics: str
    records: list[dict[str, Any]]
    response: Any
    chat: httpx.Response

    @property
    def spans(self) -> list[Seen]:
        return self.collector.spans


@contextmanager
def logged() -> Iterator[list[str]]:
    """The lines of everything that is logged meanwhile, as the gateway writes them."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name.startswith("regate") or record.levelno >= logging.WARNING:
                lines.append(self.format(record))  # else of this test's own clients and servers

    handler = Keep()
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


async def canary_session(
    opened: OpenTickets, tickets: Tickets, collector: TraceCollector, **traces: Any
) -> Session:
    """A session that has a canary wherever a client, a model, a tool or an operator writes something."""
    tickets.text = f"The ticket says {CANARY}."
    telemetry = {
        "access_log": True,
        "traces": {"endpoint": collector.url, "sample": 1.0, "flush_s": 60, "timeout_s": 60} | traces,
    }
    guards = {"providers": [EVERYWHERE]}
    with logged() as lines:
        entry = {"type": "mcp", "tenants": {TENANT: ["everyone"]}, "needs_approval": False}
        async with opened({"tickets/search": entry}, telemetry=telemetry, guards=guards) as world:
            records, response, chat, metrics = await _asked(world)
    return Session(collector, lines, metrics, records, response, chat)


async def _asked(world: World) -> tuple[list[dict[str, Any]], Any, httpx.Response, str]:
    client = world.client(f"subject-{CANARY}", TENANT, teams=["hr"])
    store = await client.vector_stores.create(name=f"store {CANARY}")
    await ingest(client, store.id, f"{CANARY}.md", f"The days of leave are {CANARY}.")
    world.upstream.turns = [
        [
            {"model": "small-2026", **chunk}
            for chunk in tool_call("file_search", {"query": f"leave {CANARY}"})
        ],
        calling("search", {"query": CANARY}, call_id="call_2"),
        text(f"It is {CANARY}."),
        text(f"Said {CANARY}."),
    ]
    search = {"type": "file_search", "vector_store_ids": [store.id]}
    response = await client.responses.create(
        model="small",
        input=f"How many days? {CANARY}",
        instructions=f"Be {CANARY}",
        metadata={"note": CANARY},
        tools=[search, offering()],  # type: ignore[list-item]
    )
    async with world.http(f"subject-{CANARY}", TENANT) as http:
        chat = await http.post(
            f"/chat/completions?q={CANARY}",
            json={"model": "small", "messages": [{"role": "user", "content": CANARY}], "stream": True},
            headers={"traceparent": PARENT, "x-canary": CANARY, "cookie": CANARY},
        )
        await http.get(f"/{IN_PATHS}")
        await http.get(f"/files/file-{IN_PATHS}")
        await http.post("/responses", content=f'{{"model": "{CANARY}", "input": "Hi"}}')
        await http.post("/chat/completions", content=f'{{"{CANARY}"')
    async with httpx.AsyncClient(verify=NO_TLS) as nobody:
        await nobody.get(f"{world.url}/v1/models", headers={"authorization": f"Bearer {CANARY}"})
        metrics = (await nobody.get(f"{world.url}/metrics")).text
    return world.audit(), response, chat, metrics


@pytest.fixture
async def session(
    opened: OpenTickets, tickets: Tickets, collector: TraceCollector, monkeypatch: pytest.MonkeyPatch
) -> Session:
    monkeypatch.setenv("COLLECTOR_HEADERS", f"authorization=Bearer%20{CANARY}")
    return await canary_session(opened, tickets, collector, headers_env="COLLECTOR_HEADERS", principal=True)


async def test_a_session_is_told_of_and_no_word_of_it_is_in_traces_logs_and_metrics(session: Session) -> None:
    trace = {
        record["trace_id"] for record in session.records if record.get("response_id") == session.response.id
    }
    (trace_id,) = trace
    spans = [span for span in session.spans if span.trace_id == trace_id]
    (root,) = [span for span in spans if not span.parent_id]
    by_name = {span.name: span for span in spans}
    records = [one for one in session.records if one.get("trace_id") == trace_id]

    # It happened, and it is told
    assert session.response.output_text == f"It is {CANARY}."
    assert (root.name, root.kind, root.attributes["http.response.status_code"]) == (
        "POST /v1/responses",
        "server",
        200,
    )
    assert {
        "decide authn",
        "decide route",
        "decide tool",
        "decide tool.result",
        "decide chunk",
        "decide guard",
        "plan chunk",
        "guard here",
        "retrieval",
        "chat small",
        "execute_tool file_search",
        "execute_tool search",
    } <= set(by_name)

    # Decisions are those of the audit log
    told = {span.attributes.get("regate.decision.id") for span in spans} - {None}
    recorded = {entry["id"] for record in records for entry in record.get("decisions", ())}
    assert told == recorded
    assert root.attributes["regate.audit.seq"] in {record["seq"] for record in records}
    assert root.attributes["regate.principal"] == records[0]["principal"]
    assert by_name["decide route"].attributes["regate.response_id"] == session.response.id
    assert by_name["decide route"].attributes["regate.policy.revision"]

    # What was found, what ran, and what it cost
    found = by_name["retrieval"]
    assert (found.attributes["regate.retrieval.found"], found.attributes["regate.retrieval.admitted"]) == (
        1,
        1,
    )
    assert found.attributes["regate.retrieval.engine"] == "main"
    assert found.span_id in {span.parent_id for span in spans if span.name == "decide chunk"}
    assert found.parent_id == by_name["execute_tool file_search"].span_id
    ran = by_name["execute_tool search"].attributes
    assert (ran["regate.tool.kind"], ran["regate.tool.server_label"], ran["regate.outcome"]) == (
        "mcp",
        "tickets",
        "completed",
    )
    first, *_ = [span for span in spans if span.name == "chat small"]
    assert (first.kind, first.attributes["gen_ai.response.model"]) == ("client", "small-2026")
    assert first.attributes["gen_ai.response.finish_reasons"] == ["tool_calls"]
    assert (
        first.attributes["gen_ai.usage.input_tokens"],
        first.attributes["gen_ai.usage.output_tokens"],
    ) == (7, 3)
    assert first.attributes["gen_ai.response.time_to_first_chunk"] > 0

    # And an answer that passes through, in a trace of its own, whatever its client named
    passed = [one for one in session.spans if one.name == "chat small" and one.trace_id != trace_id]
    assert [one.attributes["gen_ai.usage.output_tokens"] for one in passed] == [3]
    assert PARENT[3:35] not in {span.trace_id for span in session.spans}

    # No word of it
    exported = b"".join(session.collector.bodies)
    assert exported.count(b"regate.decision.id") > 10
    assert [canary for canary in (CANARY, IN_PATHS) if canary.encode() in exported] == []
    assert [canary for canary in (CANARY, IN_PATHS) if canary in session.metrics] == []
    assert [line for line in session.logs if CANARY in line] == []
    assert 'regate_trace_spans_total{outcome="exported"}' in session.metrics
    assert any("/v1/responses" in line for line in session.logs)
    assert session.collector.headers[0]["authorization"] == f"Bearer {CANARY}"


async def test_trace_of_a_trusted_client_goes_on_and_what_is_not_sampled_leaves_nothing(
    configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Any, collector: TraceCollector
) -> None:
    traces = {"endpoint": collector.url, "sample": 0.0, "trust_incoming": True, "flush_s": 60}
    settings = configure(telemetry={"access_log": False, "traces": traces})
    app, gateway = gateway_app(settings)
    async with Running(app, settings.listen) as server:
        world = World(server.url, settings, gateway, upstream, policies)
        async with world.http() as http:
            body = {"model": "small", "messages": [{"role": "user", "content": "Hi"}]}
            for headers in ({}, {"traceparent": PARENT}, {"traceparent": PARENT[:-1] + "0"}):
                await http.post("/chat/completions", json=body, headers=headers)
        named = [record.get("trace_id") for record in world.audit(kind="decisions")]
    roots = [span for span in collector.spans if span.kind == "server"]

    assert [(span.trace_id, span.parent_id) for span in roots] == [(PARENT[3:35], PARENT[36:52])]
    assert sorted(span.name for span in collector.spans) == [
        "POST /v1/chat/completions",
        "chat small",
        "decide authn",
        "decide quota",
        "decide route",
    ]
    assert set(named) == {None, PARENT[3:35]}
    assert "traceparent" not in json.dumps(upstream.headers).lower()
