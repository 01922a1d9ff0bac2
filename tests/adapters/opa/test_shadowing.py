"""The shadowing engine before two real OPAs: answers are the live one's alone, and what the candidate
would change is counted and written.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from tests.adapters.opa.policies import CHUNK, write_policies

from regate_adapters.opa.client import OpaAddress
from regate_adapters.opa.engine import OpaEngine
from regate_adapters.opa.shadowing import ShadowingEngine
from regate_adapters.testing.opa import running_opa
from regate_orchestrator.errors import PolicyUnavailable
from regate_orchestrator.ports import Answer, Planned
from regate_orchestrator.principal import Principal
from regate_orchestrator.values import JsonObject

RULE = "regate/chunk/allow"
TIGHTER = CHUNK.replace('["secret", "pii"]', '["secret", "pii", "draft"]')
ALICE = Principal("alice", "acme", teams=("hr",))

BATCH = """package regate.lib.batch

admitted := {"stores": [], "chunks": chunks, "items": [], "tool_results": [], "models": []}

chunks contains i if {
	some i, entry in input.chunks
	data.regate.chunk.allow with input as {"principal": input.principal, "chunk": entry.chunk}
}

chunk_reasons[sprintf("%v", [i])] := ["why not"] if some i, _ in input.chunks
"""


def document(*labels: str) -> JsonObject:
    chunk: JsonObject = {"tenant": "acme", "visibility": "tenant", "teams": [], "labels": list(labels)}
    return {"action": "chunk.read", "request_id": "req_1", "principal": ALICE.as_input(), "chunk": chunk}


def batch(*chunks: tuple[str, ...]) -> JsonObject:
    entries: list[Any] = [{"store": "s", "chunk": document(*labels)["chunk"]} for labels in chunks]
    parts: JsonObject = {"stores": {}, "chunks": entries, "items": [], "tool_results": [], "models": []}
    return {"action": "batch", "request_id": "req_1", "principal": ALICE.as_input(), **parts}


@dataclass
class Stopped:
    """A policy engine, in front of a real one, that a test can hold. Stands for an OPA that is slow."""

    inner: OpaEngine
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, rule: str, document: JsonObject) -> Answer:
        await self.gate.wait()
        return await self.inner.ask(rule, document)

    async def plan(self, rule: str, document: JsonObject, *, unknown: str) -> Planned:
        await self.gate.wait()
        return await self.inner.plan(rule, document, unknown=unknown)

    async def revision(self) -> str:
        return await self.inner.revision()


@asynccontextmanager
async def shadowing(
    tmp_path: Path, candidate: str, *, batches: bool = False
) -> AsyncIterator[tuple[ShadowingEngine, Path]]:
    more = {"lib/batch.rego": BATCH} if batches else {}
    live = write_policies(tmp_path / "live", {"chunk/chunk.rego": CHUNK, **more})
    other = write_policies(tmp_path / "other", {"chunk/chunk.rego": candidate, **more})
    async with running_opa(live, deadline_s=10) as engine, running_opa(other, deadline_s=10) as shadow:
        report = tmp_path / "shadow" / "flips.jsonl"
        shadowed = ShadowingEngine(engine, shadow, report=report)
        async with working(shadowed):
            yield shadowed, report


@asynccontextmanager
async def working(engine: ShadowingEngine) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(engine.work())
        yield
        task.cancel()


def flips(report: Path) -> list[dict[str, Any]]:
    records = (
        [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]
        if report.exists()
        else []
    )
    return [record for record in records if record["kind"] == "flip"]


async def test_answers_are_those_of_the_live_policy_alone(tmp_path: Path) -> None:
    async with shadowing(tmp_path, TIGHTER) as (engine, _):
        answers = [(await engine.ask(RULE, document(label))).value for label in ("draft", "secret")]
        revisions = {await engine.revision(), (await engine.ask(RULE, document())).revision}
        live = (await engine._live.revision(), await engine._candidate.revision())

    assert (answers, revisions == {live[0]}, live[0] != live[1]) == ([True, False], True, True)


async def test_same_policy_flips_nothing(tmp_path: Path) -> None:
    async with shadowing(tmp_path, CHUNK) as (engine, report):
        await engine.ask(RULE, document("draft"))
        await engine.plan(RULE, document(), unknown="chunk")
        await engine.idle()

    assert (dict(engine.counts), flips(report)) == ({(RULE, "same"): 2}, [])


async def test_tighter_candidate_is_counted_as_would_deny_with_its_reason(tmp_path: Path) -> None:
    candidate = TIGHTER + '\ndeny_reasons contains "draft" if denied\n'
    async with shadowing(tmp_path, candidate) as (engine, report):
        await engine.ask(RULE, document("draft"))
        await engine.ask(RULE, document("secret"))
        await engine.idle()

    (flip,) = flips(report)
    assert dict(engine.counts) == {(RULE, "would_deny"): 1, (RULE, "same"): 1}
    assert (flip["outcome"], flip["principal"], flip["reasons"], flip["request_id"]) == (
        "would_deny",
        ALICE.digest,
        ["draft"],
        "req_1",
    )


async def test_looser_candidate_is_counted_as_would_allow(tmp_path: Path) -> None:
    async with shadowing(tmp_path, CHUNK.replace('["secret", "pii"]', '["pii"]')) as (engine, _):
        await engine.ask(RULE, document("secret"))
        await engine.idle()

    assert dict(engine.counts) == {(RULE, "would_allow"): 1}


async def test_members_of_a_batch_are_compared_each_by_its_own_rule(tmp_path: Path) -> None:
    async with shadowing(tmp_path, TIGHTER, batches=True) as (engine, report):
        await engine.ask("regate/lib/batch/admitted", batch((), ("draft",), ("secret",)))
        await engine.idle()

    assert dict(engine.counts) == {(RULE, "same"): 2, (RULE, "would_deny"): 1}
    assert [(flip["rule"], flip["about"], flip["reasons"]) for flip in flips(report)] == [
        (RULE, "chunks/1", ["why not"])
    ]


DOCUMENTS = """package regate.lib.batch

ingested := {
	"readable": {i | some i, document in input.documents; document.file.id != UNREADABLE},
	"stamps": {sprintf("%v", [i]): {"level": LEVEL} | some i, document in input.documents; document.file.id != DENIED},
}
"""


async def test_documents_are_compared_each_by_the_rules_that_decide_it(tmp_path: Path) -> None:
    def policy(unreadable: str, level: int, denied: str) -> str:
        return (
            DOCUMENTS.replace("UNREADABLE", f'"{unreadable}"')
            .replace("LEVEL", str(level))
            .replace("DENIED", f'"{denied}"')
        )

    live = write_policies(tmp_path / "live", {"lib/batch.rego": policy("file-1", 1, "file-2")})
    other = write_policies(tmp_path / "other", {"lib/batch.rego": policy("file-2", 2, "file-3")})
    asked = {"action": "batch", "request_id": "req_1", "principal": ALICE.as_input(), "store": {}}
    files = [{"file": {"id": f"file-{number}"}} for number in (1, 2, 3)]
    async with running_opa(live, deadline_s=10) as engine, running_opa(other, deadline_s=10) as candidate:
        shadowed = ShadowingEngine(engine, candidate, report=tmp_path / "flips.jsonl")
        async with working(shadowed):
            await shadowed.ask("regate/lib/batch/ingested", {**asked, "documents": files})
            await shadowed.idle()

    assert dict(shadowed.counts) == {
        ("regate/file/allow", "would_allow"): 1,
        ("regate/file/allow", "would_deny"): 1,
        ("regate/file/allow", "same"): 1,
        ("regate/ingest/allow", "same"): 1,
        ("regate/ingest/allow", "would_allow"): 1,
        ("regate/ingest/allow", "would_deny"): 1,
        ("regate/ingest/stamp", "differs"): 1,
    }


async def test_filter_that_would_be_another_is_reported_by_its_size_and_never_its_values(
    tmp_path: Path,
) -> None:
    async with shadowing(tmp_path, TIGHTER) as (engine, report):
        await engine.plan(RULE, document(), unknown="chunk")
        await engine.idle()

    (flip,) = flips(report)
    assert (flip["outcome"], flip["filter"], "size" in flip["reasons"][0], "draft" in report.read_text()) == (
        "differs",
        True,
        True,
        False,
    )


@pytest.mark.parametrize(
    "rule",
    [
        "quota/limits", "file/limits", "route/backend", "route/obligations", "store/placement",
        "tool/visible", "tool/needs_approval",
        "tool/obligations", "history/on_deny",
    ],
)  # fmt: skip
async def test_values_are_compared(rule: str, tmp_path: Path) -> None:
    point, name = rule.split("/")
    saying = {
        kind: f'package regate.{point}\n\n{name} := {{"said": {said}}}\n'
        for kind, said in (("live", "1"), ("other", "0"))
    }
    live, other = (
        write_policies(tmp_path / kind, {f"{point}/{name}.rego": text}) for kind, text in saying.items()
    )
    report = tmp_path / "shadow" / "flips.jsonl"
    async with running_opa(live, deadline_s=30) as engine, running_opa(other, deadline_s=30) as candidate:
        shadowed = ShadowingEngine(engine, candidate, report=report)
        async with working(shadowed):
            await shadowed.ask(f"regate/{rule}", document())
            await shadowed.idle()

    assert [(flip["rule"], flip["outcome"]) for flip in flips(report)] == [(f"regate/{rule}", "differs")]


async def test_explanations_are_not_compared(tmp_path: Path) -> None:
    async with shadowing(tmp_path, TIGHTER) as (engine, _):
        await engine.ask("regate/chunk/deny_reasons", document("draft"))
        await engine.idle()

    assert dict(engine.counts) == {}


async def test_candidate_that_is_gone_changes_no_answer_and_is_counted(tmp_path: Path) -> None:
    live = write_policies(tmp_path / "live", {"chunk/chunk.rego": CHUNK})
    nowhere = OpaAddress("http://opa", socket=tmp_path / "nobody.sock")
    async with running_opa(live, deadline_s=10) as engine, OpaEngine(nowhere, schemas={}) as gone:
        shadowed = ShadowingEngine(engine, gone, report=tmp_path / "flips.jsonl")
        async with working(shadowed):
            answer = await shadowed.ask(RULE, document())
            await shadowed.idle()

    assert (answer.value, dict(shadowed.counts)) == (True, {(RULE, "error"): 1})


async def test_stuck_candidate_delays_nobody_and_what_does_not_fit_is_dropped(tmp_path: Path) -> None:
    live = write_policies(tmp_path / "live", {"chunk/chunk.rego": CHUNK})
    async with running_opa(live, deadline_s=10) as engine:
        stuck = Stopped(engine)
        shadowed = ShadowingEngine(engine, stuck, report=tmp_path / "flips.jsonl", capacity=10)
        async with working(shadowed):
            answers = [(await shadowed.ask(RULE, document())).value for _ in range(40)]
            dropped = shadowed.counts[RULE, "dropped"]
            stuck.gate.set()
            await shadowed.idle()

    assert (answers, dropped >= 26, shadowed.counts[RULE, "same"]) == ([True] * 40, True, 40 - dropped)


async def test_live_policy_that_cannot_answer_is_told_at_once(tmp_path: Path) -> None:
    other = write_policies(tmp_path / "other", {"chunk/chunk.rego": CHUNK})
    nowhere = OpaAddress("http://opa", socket=tmp_path / "nobody.sock")
    async with running_opa(other, deadline_s=10) as candidate, OpaEngine(nowhere, schemas={}) as gone:
        shadowed = ShadowingEngine(gone, candidate, report=tmp_path / "flips.jsonl")
        async with working(shadowed):
            with pytest.raises(PolicyUnavailable):
                await shadowed.ask(RULE, document())
            await shadowed.idle()

    assert dict(shadowed.counts) == {}


async def test_report_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    async with shadowing(tmp_path, TIGHTER) as (engine, report):
        report.mkdir(parents=True)
        answer = await engine.ask(RULE, document("draft"))
        await engine.idle()

    assert (answer.value, dict(engine.counts)) == (True, {(RULE, "would_deny"): 1})


async def test_metrics_name_rules_and_outcomes_and_nobody(tmp_path: Path) -> None:
    labels = {"rule": RULE, "outcome": "would_deny"}
    before = REGISTRY.get_sample_value("regate_shadow_decisions_total", labels) or 0.0
    async with shadowing(tmp_path, TIGHTER) as (engine, _):
        await engine.ask(RULE, document("draft"))
        await engine.idle()

    assert REGISTRY.get_sample_value("regate_shadow_decisions_total", labels) == before + 1


async def test_summary_is_written_at_the_end(tmp_path: Path) -> None:
    async with shadowing(tmp_path, CHUNK) as (engine, report):
        await engine.ask(RULE, document())
        await engine.idle()

    last = json.loads(report.read_text(encoding="utf-8").splitlines()[-1])
    assert (last["kind"], last["counts"]) == ("summary", [{"rule": RULE, "outcome": "same", "count": 1}])
