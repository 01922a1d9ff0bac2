"""Replay: recorded questions asked again of a candidate policy, in a second real OPA."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from click.testing import CliRunner, Result
from tests.gateway.workbench.recordings import ALICE, BOB, context, copied_policies, edit, record, usual

from regate_adapters.guards.detector import Detector
from regate_adapters.opa.engine import OpaEngine
from regate_adapters.opa.install import require_opa
from regate_gateway.workbench.replay.command import replay
from regate_gateway.workbench.replay.engine import running_policies
from regate_gateway.workbench.replay.recorded import questions_in, read_records
from regate_gateway.workbench.replay.replaying import Replay
from regate_gateway.workbench.replay.replaying import replay as replayed
from regate_orchestrator.authz.decisions import Point, Question
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.authz.obligations import QUALITIES
from regate_orchestrator.guards.checking import Guard, Guards
from regate_orchestrator.quota.limits import quota_question
from regate_orchestrator.routing import route_question
from regate_orchestrator.values import JsonObject

SHOWN = ("would_deny", "would_allow", "filter_differs")
OUTCOMES = (*SHOWN, "value_differs")
REQUEST: JsonObject = {
    "method": "POST",
    "path": "/v1/responses",
    "model": "small",
    "stream": False,
    "tool_types": [],
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    await record(copied_policies(folder / "rego"), folder / "audit", usual)
    return folder / "audit"


async def asked_again(audit: Path, engine: OpaEngine) -> Replay:
    return await replayed(read_records(audit), engine, limit=None, advance=lambda _: None)


def run(candidate: Path, audit: Path, *options: str) -> Result:
    return CliRunner().invoke(replay, ["--bundle", str(candidate), "--audit", str(audit), *options])


def changed(result: Result) -> list[dict[str, Any]]:
    rules = json.loads(result.stdout)["rules"]
    return [
        {
            "point": rule["point"],
            "action": rule["action"],
            **{name: rule[name] for name in OUTCOMES if rule[name] or name in SHOWN},
        }
        for rule in rules
        if rule["same"] != rule["asked"]
    ]


def test_recording_holds_every_kind_of_question(audit: Path) -> None:
    asked = [questions_in(one) for one in read_records(audit)]
    actions = {decision.action for one in asked for decision in one.every_decision} | {
        plan.rule for one in asked for plan in one.plans
    }

    assert {
        "store.delete", "tool.call", "ingest.document", "store.search", "chunk.read", "history.reuse",
        "tool.result", "model.list",
        "store.list", "file.list", "prompt.list", "response.list", "regate/chunk/allow", "regate/store/allow",
    } == actions  # fmt: skip


def test_unchanged_policy_changes_nothing(audit: Path, tmp_path: Path) -> None:
    result = run(copied_policies(tmp_path / "rego"), audit)

    assert (result.exit_code, "Nothing would change." in result.stdout) == (0, True)


def test_new_deny_label_flips_exactly_what_carries_it(audit: Path, tmp_path: Path) -> None:
    candidate = copied_policies(tmp_path / "rego")
    edit(candidate, "data.json", {'"hr-only": "hr"': '"hr-only": "hr", "draft": "editor"'})

    result = run(candidate, audit, "--json")

    flips = [
        {"point": "chunk", "action": "chunk.read", "would_deny": 1, "would_allow": 0, "filter_differs": 0},
        {
            "point": "chunk filter",
            "action": "chunk.read",
            "would_deny": 0,
            "would_allow": 0,
            "filter_differs": 2,
        },
        {
            "point": "store filter",
            "action": "store.list",
            "would_deny": 0,
            "would_allow": 0,
            "filter_differs": 2,
        },
        {
            "point": "tool.result",
            "action": "tool.result",
            "would_deny": 4,
            "would_allow": 0,
            "filter_differs": 0,
        },
    ]
    assert (result.exit_code, changed(result)) == (1, flips)


def test_example_names_the_chunk_the_principal_by_digest_and_the_new_reason(
    audit: Path, tmp_path: Path
) -> None:
    candidate = copied_policies(tmp_path / "rego")
    edit(candidate, "data.json", {'"hr-only": "hr"': '"hr-only": "hr", "draft": "editor"'})

    result = run(candidate, audit, "--json")

    (rule,) = [rule for rule in json.loads(result.stdout)["rules"] if rule["point"] == "chunk"]
    (example,) = rule["examples"]
    assert (example["about"], example["reasons"], len(example["principal"])) == (
        "c1",
        ["label_restricted: draft"],
        16,
    )
    assert example["name"] in {f"{one.tenant}/{one.id}" for one in (ALICE, BOB)}


def test_people_and_the_page_are_shown_names_beside_digests(audit: Path, tmp_path: Path) -> None:
    candidate = copied_policies(tmp_path / "rego")
    edit(candidate, "data.json", {'"hr-only": "hr"': '"hr-only": "hr", "draft": "editor"'})

    result = run(candidate, audit, "--html", str(tmp_path / "replay.html"))

    named = f"{ALICE.digest} ({ALICE.tenant}/{ALICE.id})"
    assert [named in text for text in (result.stdout, (tmp_path / "replay.html").read_text())] == [True, True]


def test_loosened_policy_shows_what_would_be_allowed(audit: Path, tmp_path: Path) -> None:
    candidate = copied_policies(tmp_path / "rego")
    edit(candidate, "data.json", {'"hr-only": "hr"': ""})

    result = run(candidate, audit, "--json")

    (rule,) = [rule for rule in json.loads(result.stdout)["rules"] if rule["point"] == "chunk"]
    assert (rule["would_allow"], rule["would_deny"]) == (1, 0)


def test_filter_of_the_same_size_with_other_values_is_a_change(audit: Path, tmp_path: Path) -> None:
    candidate = copied_policies(tmp_path / "rego")
    edit(
        candidate,
        "store/store.rego",
        {'input.store.visibility == "tenant"': 'input.store.visibility == "tenants"'},
    )

    result = run(candidate, audit, "--json")

    (rule,) = [rule for rule in json.loads(result.stdout)["rules"] if rule["point"] == "store filter"]
    assert rule["filter_differs"] == 2


def test_rows_of_lists_are_decided_again_each_for_being_listed(audit: Path, tmp_path: Path) -> None:
    candidate = copied_policies(tmp_path / "rego")
    for file in ("file/file.rego", "prompt/prompt.rego", "store/store.rego"):
        package = file.split("/")[0]
        edit(candidate, file, {f'"{package}.list", ': ""})
    edit(candidate, "history/history.rego", {'"response.list", ': ""})

    result = run(candidate, audit, "--json")

    decisions = {
        change["action"]: change["would_deny"]
        for change in changed(result)
        if not change["point"].endswith("filter")
    }
    assert decisions == {"store.list": 2, "file.list": 2, "prompt.list": 2, "response.list": 1}


def test_rule_that_is_gone_denies_everything_it_allowed(audit: Path, tmp_path: Path) -> None:
    candidate = copied_policies(tmp_path / "rego")
    edit(candidate, "ingest/ingest.rego", {"package regate.ingest": "package regate.other"})

    result = run(candidate, audit, "--json")

    assert {change["action"] for change in changed(result)} == {"ingest.document"}


def test_bundle_serves_as_well_as_a_directory(audit: Path, tmp_path: Path) -> None:
    copied_policies(tmp_path / "rego")
    command = [require_opa(), "build", "--bundle", "rego", "--revision", "r9", "--output", "policies.tar.gz"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)

    result = run(tmp_path / "policies.tar.gz", audit)

    assert (result.exit_code, "Nothing would change." in result.stdout) == (0, True)


async def test_recorded_limits_are_asked_for_again(tmp_path: Path) -> None:
    live, candidate = copied_policies(tmp_path / "live"), copied_policies(tmp_path / "candidate")
    await record(
        live, tmp_path / "audit", lambda enforcer: enforcer.decide(context(ALICE), quota_question(REQUEST))
    )
    edit(candidate, "quota/quota.rego", {"count(deny_reasons) == 0": 'input.principal.id == "nobody"'})

    async with running_policies(live) as same, running_policies(candidate) as other:
        found = [await asked_again(tmp_path / "audit", one.engine) for one in (same, other)]

    assert [[(tally.point, dict(tally.outcomes)) for tally in one.tallies.values()] for one in found] == [
        [("quota", {"same": 1})],
        [("quota", {"would_deny": 1})],
    ]


async def test_recorded_checks_of_guards_are_asked_again_of_other_thresholds(tmp_path: Path) -> None:
    async def checked(enforcer: Enforcer) -> None:
        guards = Guards(enforcer, [Guard("here", Detector(), frozenset({"input"}), 5, may_be_missing=False)])
        await guards.check(context(ALICE), "input", ["write to ann@example.org", "4111 1111 1111 1111"])

    def thresholds(folder: str, labels: str) -> Path:
        policies = copied_policies(tmp_path / folder)
        nothing = '"input": {"scores": {}, "labels": {}}'
        edit(policies, "data.json", {nothing: f'"input": {{"scores": {{}}, "labels": {labels}}}'})
        return policies

    live = thresholds("live", '{"email": "redact"}')
    await record(live, tmp_path / "audit", checked)
    found = []
    for policies in (live, thresholds("block", '{"email": "block", "payment_card": "flag"}')):
        async with running_policies(policies) as one:
            found.append(await asked_again(tmp_path / "audit", one.engine))

    assert [[(tally.point, dict(tally.outcomes)) for tally in one.tallies.values()] for one in found] == [
        [("guard", {"same": 2})],
        [("guard", {"would_deny": 1, "value_differs": 1})],
    ]


# what is changed of the shipped policies -> the point and action that differ, and words of what is told
VALUES: dict[str, tuple[str, dict[str, str], tuple[str, str], str]] = {
    "quotas of nothing": (
        "data.json", {'"rpm": 1000000': '"rpm": 0', '"max_turns": 100': '"max_turns": 0'}, ("quota",
            "quota.limits"), '"rpm": 1000000',
    ),
    "limits of files": ("data.json", {'"max_files": 10000': '"max_files": 3'}, ("file", "file.upload"),
        '"max_files": 3'),
    "another upstream": (
        "data.json",
            {'"backends": {}': '"backends": {"small": {"backend": "far", "tenants": {}, "obligations": {}}}'},
        ("route", "route.call"), 'backend: nothing → "far"',
    ),
    "obligations": (
        "data.json",
        {
            '"backends": {}': '"backends": {"small": '
            '{"backend": "far", "tenants": {}, "obligations": {"no_store": true}}}'
        },
        ("route", "route.call"), 'obligations: {} → {"no_store": true}',
    ),
    "placement": ("data.json", {'"placement": {}': '"placement": {"acme": "far"}'}, ("store",
        "store.create"), 'placement: nothing → "far"'),
    "the largest result of a call": (
        "data.json", {'"max_tool_result_bytes": 4194304': '"max_tool_result_bytes": 9'}, ("tool",
            "tool.call"), '{"max_result_bytes": 9}',
    ),
    "approval": (
        "tool/tool.rego", {"input.tool.side_effect == false": "input.tool.side_effect == true"},
        ("tool", "tool.call"), "needs_approval: false → true",
    ),
    "visible tools": (
        "data.json", {'"denied_tools": {}': '"denied_tools": {"mail": "x"}'}, ("tool visible", "tool.list"),
            'visible: ["mail"] → []',
    ),
    "what becomes of what is withheld": (
        "history/history.rego", {'on_deny := "redact"': 'on_deny := "refuse"'}, ("history on_deny",
            "history.reuse"), '"redact" → "refuse"',
    ),
}  # fmt: skip


async def valued(enforcer: Enforcer) -> None:
    """One of everything that is more than yes or no."""
    who = context(ALICE)
    tool: JsonObject = {
        "type": "function",
        "server_label": "",
        "name": "mail",
        "arguments": {},
        "side_effect": False,
    }
    new: JsonObject = {"id": "vs_2", "name": "new", "requested": {}}
    await enforcer.decide_all(
        who,
        "turn",
        [
            quota_question(REQUEST),
            route_question("small", REQUEST),
            Question(Point.FILE, "file.upload", {}, companions=("limits",)),
            Question(Point.STORE, "store.create", new, companions=("placement",)),
            Question(
                Point.TOOL,
                "tool.call",
                {"tool": tool, "turn": {"index": 0, "calls_so_far": 0}},
                companions=QUALITIES,
            ),
        ],
    )
    await enforcer.value(who, "regate/tool/visible", "tool.list", {"tools": [tool]})
    await enforcer.value(who, "regate/history/on_deny", "history.reuse", {"item": {"id": "resp_1"}})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def values(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("valued")
    await record(copied_policies(folder / "rego"), folder / "audit", valued)
    return folder / "audit"


def test_values_that_stay_change_nothing(values: Path, tmp_path: Path) -> None:
    result = run(copied_policies(tmp_path / "rego"), values)

    assert (result.exit_code, "Nothing would change." in result.stdout) == (0, True)
    assert "Identity and stamps were not asked again" in result.stdout


@pytest.mark.parametrize("name", VALUES)
def test_a_value_that_would_differ_is_a_change_and_both_are_told(
    name: str, values: Path, tmp_path: Path
) -> None:
    file, replacements, (point, action), told = VALUES[name]
    candidate = copied_policies(tmp_path / "rego")
    edit(candidate, file, replacements)

    result = run(candidate, values, "--json")

    differing = [rule for rule in json.loads(result.stdout)["rules"] if rule["value_differs"]]
    assert (result.exit_code, [(rule["point"], rule["action"],
    rule["value_differs"]) for rule in differing if rule["point"] == point]) == (
        1, [(point, action, 1)],
    )  # fmt: skip
    assert any(
        told in reason for rule in differing for example in rule["examples"] for reason in example["reasons"]
    )


def test_values_of_an_earlier_version_are_asked_again_as_far_as_they_are_recorded() -> None:
    entry = {
        "id": "dec_1", "rule": "regate/route/allow", "action": "route.call", "about": "small",
            "resource": {"request": REQUEST}, "allowed": True,
        "qualities": {"backend": "near"},
    }  # fmt: skip
    said = {"kind": "decisions", "asked_as": ALICE.as_input(), "now": 1, "decisions": [entry]}

    (decision,) = questions_in(said).decisions

    assert [(one.rule, one.said) for one in decision.values] == [("regate/route/backend", ("near",))]


def test_limit_bounds_the_records_asked(audit: Path, tmp_path: Path) -> None:
    result = run(copied_policies(tmp_path / "rego"), audit, "--json", "--limit", "1")

    assert json.loads(result.stdout)["records"] == 1


def test_records_are_read_on_where_a_segment_is_deleted_meanwhile(audit: Path, tmp_path: Path) -> None:
    (recorded,) = audit.glob("audit-*.jsonl")
    for number in (1, 2, 3):
        shutil.copy(recorded, tmp_path / f"audit-{number:016d}.jsonl")
    records = read_records(tmp_path)

    count = 1 + (next(records) is None)
    (tmp_path / "audit-0000000000000002.jsonl").unlink()

    assert count + sum(1 for _ in records) == 2 * len(recorded.read_bytes().splitlines())


def test_records_that_cannot_be_read_exit_2_and_no_change_is_told(tmp_path: Path) -> None:
    (tmp_path / "audit-0000000000000001.jsonl").mkdir()

    result = run(copied_policies(tmp_path / "rego"), tmp_path)

    assert (result.exit_code, "cannot be read" in result.stderr) == (2, True), result.stderr


def test_candidate_that_does_not_compile_exits_2(audit: Path, tmp_path: Path) -> None:
    candidate = copied_policies(tmp_path / "rego")
    (candidate / "broken.rego").write_text("package regate.broken\n\nallow if {\n", encoding="utf-8")

    result = run(candidate, audit)

    assert (result.exit_code, "broken.rego" in result.stderr) == (2, True)


def test_of_a_principal_the_name_alone_is_printed_and_no_argument_of_a_tool(
    audit: Path, tmp_path: Path
) -> None:
    candidate = copied_policies(tmp_path / "rego")
    edit(
        candidate,
        "data.json",
        {
            '"hr-only": "hr"': '"hr-only": "hr", "draft": "editor"',
            '"denied_tools": {}': '"denied_tools": {"mail": "x"}',
        },
    )

    printed = [run(candidate, audit, *options).stdout for options in ([], ["--json"])]

    assert [("acme/alice" in text, "SECRET-ARGUMENT" in text, "clearance" in text) for text in printed] == [
        (True, False, False)
    ] * 2
