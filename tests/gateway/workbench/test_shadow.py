"""What `regate policy shadow` makes of a report, which is written here by a real shadowing engine
before two real OPAs.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.gateway.workbench.recordings import (
    ALICE,
    BOB,
    STORE,
    chunk,
    context,
    copied_policies,
    edit,
    record,
    usual,
)

from regate_adapters.audit.log import SegmentedAuditLog
from regate_adapters.opa.shadowing import ShadowingEngine
from regate_adapters.testing.opa import running_opa
from regate_gateway.workbench.replay.engine import row_schemas
from regate_gateway.workbench.replay.shadow import as_document, read_report, shadow
from regate_orchestrator.authz.batches import Batch
from regate_orchestrator.authz.decisions import Point
from regate_orchestrator.authz.enforcer import Enforcer


@asynccontextmanager
async def working(tmp_path: Path, changes: dict[str, str]) -> AsyncIterator[tuple[Enforcer, Path]]:
    """Give an enforcer that works under the shipped policies, in whose shadow others stand, and the
    report; which is whole at the end.
    """
    live, candidate = copied_policies(tmp_path / "live"), copied_policies(tmp_path / "candidate")
    edit(candidate, "data.json", changes)
    schemas, report = row_schemas(live), tmp_path / "flips.jsonl"
    async with (
        running_opa(live, schemas=schemas, deadline_s=10) as engine,
        running_opa(candidate, schemas=schemas, deadline_s=10) as other,
        SegmentedAuditLog.open(tmp_path / "audit", durable=False) as log,
        asyncio.TaskGroup() as group,
    ):
        shadowing = ShadowingEngine(engine, other, report=report)
        task = group.create_task(shadowing.work())
        yield Enforcer(shadowing, log, schemas), report
        await shadowing.idle()
        task.cancel()


async def shadowed(tmp_path: Path, changes: dict[str, str]) -> Path:
    """Let two principals search in such a shadow; return the report."""
    async with working(tmp_path, changes) as (enforcer, report):
        for principal in (ALICE, BOB):
            chunks = [("vs_1", stamp) for stamp in (chunk(), chunk(visibility="tenant", labels=["draft"]))]
            await enforcer.admit(
                context(principal), "chunk.read", Batch(stores={"vs_1": STORE}, chunks=chunks)
            )
            await enforcer.plan(
                context(principal), Point.CHUNK, "chunk.read", unknown="chunk", resource={"store": STORE}
            )
    return report


async def test_report_counts_flips_by_rule_direction_and_principal(tmp_path: Path) -> None:
    report = await shadowed(tmp_path, {'"hr-only": "hr"': '"hr-only": "hr", "draft": "editor"'})

    document = as_document(read_report(report.read_bytes().splitlines()))

    (rule,) = [rule for rule in document["rules"] if rule["rule"] == "regate/chunk/allow"]
    assert rule == {
        "rule": "regate/chunk/allow",
        "same": 2,
        "would_deny": 2,
        "would_allow": 0,
        "differs": 2,
        "error": 0,
        "dropped": 0,
    }
    assert {(one["principal"], one["outcome"], one["count"]) for one in document["principals"]} == {
        (principal.digest, outcome, 1) for principal in (ALICE, BOB) for outcome in ("would_deny", "differs")
    }


async def test_rows_of_lists_are_compared_each_by_the_rule_that_decides_it(tmp_path: Path) -> None:
    stores = [STORE, {**STORE, "labels": ["draft"]}]
    rows = Batch(
        listed_stores=stores, listed_files=stores[1:], listed_prompts=stores[1:], listed_responses=stores[1:]
    )
    async with working(tmp_path, {'"hr-only": "hr"': '"hr-only": "hr", "draft": "editor"'}) as (
        enforcer,
        report,
    ):
        await enforcer.admit(context(ALICE), "lists", rows)

    flips = [
        line
        for line in map(json.loads, report.read_text(encoding="utf-8").splitlines())
        if line["kind"] == "flip"
    ]
    assert [(flip["rule"], flip["about"], flip["outcome"]) for flip in flips] == [
        ("regate/store/allow", "listed_stores/1", "would_deny"),
        ("regate/file/allow", "listed_files/0", "would_deny"),
        ("regate/prompt/allow", "listed_prompts/0", "would_deny"),
        ("regate/history/allow", "listed_responses/0", "would_deny"),
    ]


async def test_report_says_why_and_holds_no_name_and_no_attribute(tmp_path: Path) -> None:
    report = await shadowed(tmp_path, {'"hr-only": "hr"': '"hr-only": "hr", "draft": "editor"'})

    text = report.read_text(encoding="utf-8")

    assert ["label_restricted: draft" in text, "alice" in text, "handbook" in text, "carol" in text] == [
        True,
        False,
        False,
        False,
    ]


async def test_command_prints_the_table_and_exits_1_when_something_would_change(tmp_path: Path) -> None:
    report = await shadowed(tmp_path, {'"hr-only": "hr"': '"hr-only": "hr", "draft": "editor"'})

    done = CliRunner().invoke(shadow, ["--report", str(report)])

    assert (done.exit_code, "4 answers would have been different." in done.stdout) == (1, True)


async def test_names_that_audit_records_tell_stand_beside_digests(tmp_path: Path) -> None:
    report = await shadowed(tmp_path, {'"hr-only": "hr"': '"hr-only": "hr", "draft": "editor"'})
    await record(copied_policies(tmp_path / "recorded"), tmp_path / "audit", usual)
    (tmp_path / "empty").mkdir()
    page = tmp_path / "shadow.html"

    done = CliRunner().invoke(
        shadow, ["--report", str(report), "--audit", str(tmp_path / "audit"), "--html", str(page)]
    )
    unknown = CliRunner().invoke(shadow, ["--report", str(report), "--audit", str(tmp_path / "empty")])

    for principal in (ALICE, BOB):
        assert f"{principal.digest}  {principal.tenant}/{principal.id}  would_deny  1" in done.stdout
        assert f"{principal.tenant}/{principal.id}" in page.read_text()
        assert f"{principal.digest}  -  would_deny  1" in unknown.stdout


async def test_command_exits_0_when_nothing_would_change(tmp_path: Path) -> None:
    change = {'"models": {},\n    "backends"': '"models": {"other": ["globex"]},\n    "backends"'}
    report = await shadowed(tmp_path, change)

    done = CliRunner().invoke(shadow, ["--report", str(report), "--json"])

    assert (done.exit_code, json.loads(done.stdout)["flips"]) == (0, 0)


def test_no_report_is_told_and_exits_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    done = CliRunner().invoke(shadow, [])

    assert (done.exit_code, "opa.shadow" in done.stderr) == (2, True)


def test_flips_after_the_last_summary_and_summaries_of_several_runs_are_added_up() -> None:
    counts = [
        {"rule": "r", "outcome": "same", "count": 3},
        {"rule": "r", "outcome": "would_deny", "count": 1},
    ]
    flip = {"kind": "flip", "rule": "r", "outcome": "would_deny", "principal": "p"}
    summaries = [
        {"kind": "summary", "since": since, "counts": counts} for since in ("monday", "monday", "tuesday")
    ]

    report = read_report([*(json.dumps(one).encode() for one in (flip, *summaries, flip, flip)), b"torn"])

    assert (dict(report.counts), report.unreadable) == ({("r", "same"): 6, ("r", "would_deny"): 3}, 1)
