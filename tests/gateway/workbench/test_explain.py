"""Explanations: verdict, rules, lines, reasons and filters, from a real OPA, a real `opa eval` and
real audit records.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import pytest_asyncio
from click.testing import CliRunner, Result
from tests.gateway.workbench.recordings import ALICE, BOB, STORE, chunk, copied_policies, edit, record, usual

from regate_adapters.opa.install import require_opa
from regate_adapters.state.store import SqlStateStore
from regate_gateway.workbench.directory import shipped_policies
from regate_gateway.workbench.explain.command import explain
from regate_gateway.workbench.replay.recorded import questions_in, read_records
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import Attachment, FileRow, StoreRow
from regate_orchestrator.values import FileId, StoreId

Supposing = Callable[..., dict[str, Any]]


def run(*options: str) -> Result:
    return CliRunner().invoke(explain, [*options])


def suppose(principal: Principal, stamp: dict[str, Any], *, policy: Path | None = None) -> dict[str, Any]:
    """Explain a chunk that nobody asked about yet."""
    given = [
        "--principal",
        json.dumps(principal.as_input()),
        "--chunk",
        json.dumps(stamp),
        "--store",
        json.dumps(STORE),
    ]
    result = run(*given, "--policy", str(policy or shipped_policies()), "--json")
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def conditions(attempts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every condition that did not hold, outermost first."""
    found: list[dict[str, Any]] = []
    for attempt in attempts:
        if "condition" in attempt:
            found += [attempt["condition"], *conditions(attempt["condition"]["because"])]
        found += conditions(attempt.get("because", []))
    return found


def line_of(place: str) -> str:
    file, _, row = place.rpartition(":")
    return (shipped_policies() / file).read_text(encoding="utf-8").splitlines()[int(row) - 1].strip()


def test_denied_chunk_names_the_failing_conditions_with_their_lines_and_values() -> None:
    explained = suppose(BOB, chunk())["decision"]

    failed = conditions(explained["attempts"])
    team = next(condition for condition in failed if condition["text"] == "team in input.principal.teams")
    assert (explained["allowed"], explained["reasons"]) == (False, ["not_shared_with_principal"])
    assert team["values"] == {"input.principal.teams": ["eng"], "input.chunk.teams": ["hr"]}
    assert [
        condition["text"] for condition in failed if condition["text"] not in line_of(condition["at"])
    ] == []


def test_label_that_restricts_is_blamed_on_the_rule_that_held() -> None:
    explained = suppose(BOB, chunk(visibility="tenant", labels=["hr-only"]))["decision"]

    (condition,) = [
        condition for condition in conditions(explained["attempts"]) if condition["text"] == "not restricted"
    ]
    (blamed,) = condition["because"]
    assert (blamed["rule"], blamed["held"], blamed["values"]) == (
        "regate.chunk.restricted",
        True,
        {"input.chunk.labels": ["hr-only"]},
    )
    assert explained["reasons"] == ["label_restricted: hr-only"]


def test_allowed_chunk_names_the_rules_that_held() -> None:
    explained = suppose(ALICE, chunk())["decision"]

    (allow,) = explained["attempts"]
    held = {one["rule"] for one in allow["because"]}
    assert (explained["allowed"], allow["rule"], "regate.chunk.granted" in held) == (
        True,
        "regate.chunk.allow",
        True,
    )
    assert line_of(allow["at"]) == "allow if {"


def test_filter_is_shown_as_formula_and_as_each_store_is_asked_it() -> None:
    shown = suppose(BOB, chunk())["filter"]

    sql = shown["stores"]["sql"]
    assert 'teams overlaps ["eng"]' in shown["formula"]
    assert shown["guard"] == 'tenant == "acme"'
    assert {"teams": {"$contains": "eng"}} in list(every(shown["stores"]["chroma"]["where"]))
    assert set(re.findall(r":(\w+)", sql["where"])) <= set(sql["parameters"])
    assert "bob" in sql["parameters"].values()


@pytest.mark.parametrize(("options", "shown"), [([], False), (["--filters"], True)])
def test_people_are_shown_what_stores_are_asked_when_they_ask_for_it(options: list[str], shown: bool) -> None:
    printed = run(
        "--principal", json.dumps(BOB.as_input()), "--policy", str(shipped_policies()), *options
    ).stdout

    assert ('teams overlaps ["eng"]' in printed, "$contains" in printed) == (True, shown)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--principal", '{"id": "bob", "tenant": "acme", "team": ["eng"]}'],
            "a principal has no 'team'; did you mean 'teams'?",
        ),
        (
            ["--principal", '{"id": "bob", "tenant": "acme", "role": []}'],
            "a principal has no 'role'; did you mean 'roles'?",
        ),
        (
            ["--principal", '{"id": "bob", "tenant": "acme", "x": 1}'],
            "a principal has no 'x'; there are id, tenant",
        ),
        (["--principal", '{"id": "bob"}'], "is no principal: needs id and tenant"),
        (
            ["--principal", '{"id": "bob", "tenant": "acme"}', "--file", "file-1", "--chunk", "{}"],
            "give --file or --chunk",
        ),
        (["--principal", '{"id": "bob", "tenant": "acme"}', "--store", "vs_1"], "with --file"),
        (["--response", "resp_1", "--file", "file-1"], "belong to --principal"),
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(options: list[str], said: str) -> None:
    result = run(*options)

    assert (result.exit_code, said in " ".join(result.stderr.split())) == (2, True)


async def _stored(tmp_path: Path) -> None:
    """A file of acme in one vector store for the team hr, another in two, and one whose ingestion failed."""
    held: list[tuple[str, str, Literal["completed", "failed"]]] = [
        *(
            ("vs_1", "file-1", "completed"),
            ("vs_1", "file-2", "completed"),
            ("vs_2", "file-2", "completed"),
            ("vs_1", "file-3", "failed"),
        )
    ]
    async with SqlStateStore.open(f"sqlite:///{tmp_path / 'data' / 'regate.db'}") as state:
        for name in ("vs_1", "vs_2"):
            await state.vector_stores.add(
                StoreRow(StoreId(name), name, 1, 1, {}, STORE, "local", 256, "main")
            )
        for name in ("file-1", "file-2", "file-3"):
            await state.files.add(
                FileRow(FileId(name), "a.md", 3, "assistants", 1, {"tenant": "acme", "owner": "carol"})
            )
        for store, file, status in held:
            await state.attachments.put(
                [
                    Attachment(
                        StoreId(store),
                        FileId(file),
                        1,
                        status,
                        chunk(),
                        {},
                        {},
                        800,
                        400,
                        "r",
                        {"id": "carol"},
                    )
                ]
            )


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--file", "file-1"], 0, "DENIED: chunk.read file-1 by regate.chunk.allow"),
        (["--file", "file-1", "--store", "vs_1"], 0, "reason: not_shared_with_principal"),
        (["--file", "file-2", "--store", "vs_2"], 0, "DENIED: chunk.read file-2"),
        (["--file", "file-2"], 1, "is in several vector stores: say in which (store): vs_1, vs_2"),
        (["--file", "file-3"], 0, "Note: its ingestion is failed, so no search finds it yet"),
        (["--file", "file-1", "--store", "vs_2"], 1, "is not in vs_2"),
        (["--file", "file-9"], 1, "the tenant acme has no file file-9"),
        (["--file", "../etc"], 1, "has no file"),
    ],
)
async def test_what_is_stored_of_a_file_explains_who_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    await _stored(tmp_path)
    given = ("--principal", json.dumps(BOB.as_input()), "--policy", str(shipped_policies()))
    result = await asyncio.to_thread(run, *given, *options)

    assert (result.exit_code, said in result.output) == (code, True), result.output


def test_where_nothing_was_stored_yet_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(
        "--principal", json.dumps(BOB.as_input()), "--policy", str(shipped_policies()), "--file", "file-1"
    )

    assert (result.exit_code, "no file yet" in result.output, list(tmp_path.iterdir())) == (1, True, [])


def every(value: Any) -> Any:
    """Every value inside a JSON value."""
    yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from every(inner)


def test_filter_that_a_store_cannot_express_is_shown_as_refused(tmp_path: Path) -> None:
    policies = copied_policies(tmp_path / "rego")
    edit(
        policies,
        "chunk/chunk.rego",
        {
            'shared if input.chunk.visibility == "tenant"': (
                'shared if startswith(input.chunk.visibility, "ten")'
            )
        },
    )

    shown = suppose(BOB, chunk(), policy=policies)["filter"]

    assert ("refused" in shown["stores"]["chroma"], "where" in shown["stores"]["sql"]) == (True, True)


def test_without_a_chunk_only_the_filter_is_shown() -> None:
    result = run("--principal", json.dumps(BOB.as_input()), "--policy", str(shipped_policies()), "--json")

    document = json.loads(result.stdout)
    assert (document["decision"], document["filter"]["plan"]["kind"]) == (None, "matching")


def test_chunk_may_come_from_a_file_and_its_faults_are_told(tmp_path: Path) -> None:
    (tmp_path / "chunk.json").write_text(json.dumps({**chunk(), "tennant": "acme"}), encoding="utf-8")

    result = run(
        "--principal",
        json.dumps(BOB.as_input()),
        "--chunk",
        f"@{tmp_path / 'chunk.json'}",
        "--policy",
        str(shipped_policies()),
    )

    assert (result.exit_code, "tennant: not declared" in result.stdout) == (0, True)


def test_printed_command_asks_the_same_again(tmp_path: Path) -> None:
    for stamp, verdict in ((chunk(), "false"), (chunk(visibility="tenant"), "true")):
        command = suppose(BOB, stamp)["decision"]["command"]
        (tmp_path / "opa").unlink(missing_ok=True)
        (tmp_path / "opa").symlink_to(require_opa())
        path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        done = subprocess.run(
            ["sh", "-c", command], capture_output=True, text=True, env=path, timeout=60, check=True
        )

        assert done.stdout.strip().splitlines()[-1] == verdict


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--principal", "{}"],
        ["--principal", "nonsense"],
        ["--principal", "[1]"],
        ["--principal", '{"id": "a", "tenant": "b"}', "--decision", "dec_1"],
        ["--decision", "dec_1", "--chunk", "{}"],
    ],
)
def test_wrong_usage_exits_2(options: list[str]) -> None:
    assert run(*options).exit_code == 2


# ---------------------------------------------------------------- recorded decisions


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    await record(copied_policies(folder / "rego"), folder / "audit", usual)
    return folder / "audit"


def denied_decision(audit: Path) -> str:
    """The id of a recorded denial of deleting the store."""
    asked = [decision for one in read_records(audit) for decision in questions_in(one).decisions]
    return next(one.id for one in asked if one.action == "store.delete" and not one.allowed)


def test_recorded_decision_is_explained_as_it_was_decided(audit: Path) -> None:
    result = run(
        "--decision",
        denied_decision(audit),
        "--audit",
        str(audit),
        "--policy",
        str(shipped_policies()),
        "--json",
    )

    (explained,) = json.loads(result.stdout)["decisions"]
    texts = {condition["text"] for condition in conditions(explained["attempts"])}
    assert (explained["recorded"], explained["allowed"], explained["about"]) == (False, False, "vs_1")
    assert explained["reasons"] == explained["recorded_reasons"] == ["neither_owner_nor_store_admin"]
    assert "changeable" in texts
    assert not any(text.startswith("input.action") for text in texts)


def test_decision_that_another_policy_would_take_differently_says_so(audit: Path, tmp_path: Path) -> None:
    policies = copied_policies(tmp_path / "rego")
    edit(
        policies,
        "store/store.rego",
        {'"store_admin" in input.principal.roles': '"eng" in input.principal.teams'},
    )

    result = run("--decision", denied_decision(audit), "--audit", str(audit), "--policy", str(policies))

    assert "recorded: denied, which is not what it says now" in result.stdout


def test_response_is_explained_with_every_decision_batch_member_and_filter(audit: Path) -> None:
    result = run("--response", "resp_1", "--audit", str(audit), "--policy", str(shipped_policies()), "--json")

    document = json.loads(result.stdout)
    seen = {(one["action"], one["about"], one["recorded"], one["allowed"]) for one in document["decisions"]}
    assert {
        ("chunk.read", "c2", False, False),
        ("model.list", "small", True, True),
        ("ingest.document", "file_1", False, False),
    } <= seen
    assert [one for one in seen if one[2] != one[3]] == []
    assert {plan["rule"] for plan in document["filters"]} == {"regate/chunk/allow", "regate/store/allow"}


def test_a_recorded_filter_is_shown_as_a_formula(audit: Path) -> None:
    asked = ("--response", "resp_1", "--audit", str(audit), "--policy", str(shipped_policies()))

    printed, document = run(*asked).stdout, json.loads(run(*asked, "--json").stdout)

    lines = [line for line in printed.splitlines() if line.startswith("Filter in record")]
    assert len(lines) == len(document["filters"]) > 1
    assert all('tenant == "acme"' in line and "{" not in line for line in lines)
    assert {plan["unchanged"] for plan in document["filters"]} == {True}


def test_a_recorded_filter_that_is_made_otherwise_now_is_told(audit: Path, tmp_path: Path) -> None:
    policy = copied_policies(tmp_path / "rego")
    edit(policy, "data.json", {'"hr-only": "hr"': '"hr-only": "hr", "draft": "editor"'})

    printed = run("--response", "resp_1", "--audit", str(audit), "--policy", str(policy)).stdout

    (line, *_) = [
        line
        for line in printed.splitlines()
        if line.startswith("Filter in record") and "regate.chunk.allow" in line
    ]
    assert "was another than the policy makes now: " in line
    assert "draft" in line


def test_arguments_of_a_tool_are_shown_by_their_length_alone(audit: Path) -> None:
    printed = [
        run(
            "--response", "resp_1", "--audit", str(audit), "--policy", str(shipped_policies()), *options
        ).stdout
        for options in ([], ["--json"])
    ]

    assert [("SECRET-ARGUMENT" in text, "(15 characters)" in text) for text in printed] == [(False, True)] * 2


def test_unknown_identifier_exits_1(audit: Path) -> None:
    result = run("--decision", "dec_nobody", "--audit", str(audit), "--policy", str(shipped_policies()))

    assert (result.exit_code, "no record of dec_nobody" in result.stderr) == (1, True)
