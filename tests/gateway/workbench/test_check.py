"""`regate policy check` from end to end, with a real OPA: what it accepts, what it refuses, and what
it prints.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.gateway.workbench.conftest import Write

import regate_gateway
import regate_orchestrator
from regate_adapters.opa.acceptance.findings import Finding
from regate_adapters.opa.acceptance.syntax import Policies
from regate_adapters.opa.policies.source import read_source
from regate_gateway.cli.main import main
from regate_gateway.workbench.check.agreement import LISTINGS, Compiled, disagreements, fragment_findings
from regate_gateway.workbench.check.checks import QUICK, read_schemas
from regate_gateway.workbench.check.entrypoints import entrypoint_findings, required_rules
from regate_gateway.workbench.check.parsing import parse_policies
from regate_gateway.workbench.check.samples import Sample
from regate_gateway.workbench.check.support import Support, support_findings
from regate_gateway.workbench.check.tools import run_regal
from regate_gateway.workbench.directory import shipped_policies
from regate_gateway.workbench.opa_command import OpaCommand
from regate_orchestrator.authz.batches import BATCH_RULE
from regate_orchestrator.authz.decisions import Point
from regate_orchestrator.authz.points import PRINCIPAL, asked_rules
from regate_orchestrator.filters.expression import Compare, FilterPlan, all_of, plan_of
from regate_orchestrator.principal import Principal


def run(arguments: Sequence[str]) -> Result:
    return CliRunner().invoke(main, ["policy", "check", *arguments])


def report(arguments: Sequence[str]) -> dict[str, Any]:
    result = run([*arguments, "--json"])
    assert result.exit_code in (0, 1), result.output
    found: dict[str, Any] = json.loads(result.stdout)
    assert found["ok"] == (result.exit_code == 0)
    return found


def chunk_rule(write: Write, body: str) -> Path:
    """Makes this the whole chunk package of a copy."""
    write("chunk/reasons.rego", 'package regate.chunk\n\ndeny_reasons contains "denied" if not allow\n')
    return write("chunk/chunk.rego", f"package regate.chunk\n\ndefault allow := false\n\n{body}\n")


def codes(found: dict[str, Any]) -> set[tuple[str, str]]:
    return {(finding["file"], finding["code"]) for check in found["checks"] for finding in check["findings"]}


def status(found: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["status"] for check in found["checks"]}


def test_the_shipped_policies_pass_with_their_tests_in_every_store_and_without_a_warning() -> None:
    found = report([])

    assert codes(found) == set()
    assert [warning for check in found["checks"] for warning in check["warnings"]] == []
    assert {one["exact"] for one in found["stores"]} == {True}
    names = (
        "types",
        "tests",
        "entrypoints",
        "authoring",
        "controls",
        "absences",
        "filters",
        "stores",
        "agreement",
    )
    assert {"ok"} == {status(found)[name] for name in names}


def test_everything_wrong_is_told_at_once_and_the_exit_code_says_so(policies: Path) -> None:
    (policies / "history" / "history.rego").write_text(
        (policies / "history" / "history.rego")
        .read_text()
        .replace('on_deny := "redact"', 'withheld :=    "redact"')
    )
    (policies / "schemas" / "file.json").write_text(
        (policies / "schemas" / "file.json")
        .read_text()
        .replace('"additionalProperties": false', '"additionalProperties": true')
    )
    tests = policies.parent / "tests"
    tests.mkdir()
    (tests / "wrong_test.rego").write_text("package wrong_test\n\ntest_that_is_false if 1 == 2\n")

    result = run(["--policy", str(policies), "--store", "memory"])

    assert result.exit_code == 1
    for expected in (
        "history/history.rego: opa-fmt: is not formatted",
        "history/history.rego: missing-entrypoint: data.regate.history.on_deny is missing",
        "schemas/file.json: schema-not-closed: ",
        "../tests/wrong_test.rego:3: test-failed: data.wrong_test.test_that_is_false",
    ):
        assert expected in result.output


def test_a_file_that_does_not_parse_ends_the_checks_at_its_line(write: Write) -> None:
    found = report(["--policy", str(write("chunk/chunk.rego", "package regate.chunk\n\nallow if {\n"))])

    assert ("chunk/chunk.rego", "syntax") in codes(found)


def test_what_opa_refuses_is_told_with_the_declared_names(write: Write) -> None:
    text = (
        "# METADATA\n# scope: package\n# schemas:\n#   - input: schema.input.route\npackage "
        "regate.extra\n\nopen if input.reqest == 1\n"
    )

    found = report(["--policy", str(write("extra/extra.rego", text))])

    (finding,) = next(check["findings"] for check in found["checks"] if check["name"] == "types")
    assert (finding["file"], finding["row"], finding["code"]) == ("extra/extra.rego", 7, "opa-check")
    assert "request" in finding["message"]
    assert status(found)["agreement"] == "not_run"


@pytest.mark.parametrize("rule", required_rules())
def test_no_required_rule_can_be_left_out(rule: str, opa: Path) -> None:
    policies, _ = parse_policies([], OpaCommand(opa, Path.cwd()))

    named = [
        finding.message.split()[0]
        for finding in entrypoint_findings(policies)
        if finding.code == "missing-entrypoint"
    ]

    assert f"data.{rule.replace('/', '.')}" in named


@pytest.mark.parametrize("package", ["prompt", "quota", "guard", "tool", "admin", "lib/batch"])
def test_a_decision_point_that_is_left_out_is_told_rule_by_rule(package: str, policies: Path) -> None:
    shutil.rmtree(policies / package)

    found = report(["--policy", str(policies), "--only", "entrypoints"])
    (entrypoints,) = [check for check in found["checks"] if check["name"] == "entrypoints"]

    named = [finding["message"].split()[0] for finding in entrypoints["findings"]]
    asked = [rule for rule in asked_rules() if rule.startswith(f"regate/{package}/")]
    assert named == [f"data.{rule.replace('/', '.')}" for rule in asked] != []


def test_a_rule_that_takes_arguments_answers_nobody(policies: Path) -> None:
    quota = policies / "quota" / "quota.rego"
    quota.write_text(quota.read_text().replace("\nlimits := ", "\nlimits(_) := ", 1))

    found = report(["--policy", str(policies), "--only", "entrypoints"])

    assert ("quota/quota.rego", "missing-entrypoint") in codes(found)


def test_the_contract_is_what_the_shipped_policies_offer(opa: Path) -> None:
    inspected = json.loads(
        OpaCommand(opa, shipped_policies()).run("inspect", "--annotations", "--format", "json", ".").out
    )
    offered = [note["path"][1:] for note in inspected["annotations"] if note["annotations"].get("entrypoint")]

    assert {"/".join(part["value"] for part in path if part["type"] == "string") for path in offered} == set(
        asked_rules()
    )


def test_the_contract_covers_whatever_the_code_asks_for() -> None:
    sources = [
        path
        for module in (regate_gateway, regate_orchestrator)
        for path in Path(next(iter(module.__path__))).rglob("*.py")
    ]
    rule = re.compile(r"regate/[a-z_]+(?:/[a-z_]+)+")
    named = {text for path in sources for text in texts_in(path) if rule.fullmatch(text)}
    of_points = {rule for point in Point for rule in point.rules}

    assert {PRINCIPAL, BATCH_RULE} <= named
    assert named | of_points <= set(asked_rules())


def texts_in(path: Path) -> Iterator[str]:
    return (
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def test_a_filter_that_the_deployed_store_cannot_apply_is_a_finding_and_another_store_is_not_asked(
    write: Write,
) -> None:
    policy = chunk_rule(write, 'allow if startswith(input.chunk.owner, "svc-")')

    found = report(["--policy", str(policy), "--store", "chroma"])
    elsewhere = report(["--policy", str(policy), "--store", "memory", "--store", "sqlite"])

    assert codes(found) == {("chunk/chunk.rego", "not-expressible")}
    assert [(one["store"], one["exact"]) for one in found["stores"] if one["store"] == "chroma"] == [
        ("chroma", False)
    ]
    assert "Chroma has no string predicates (owner)" in next(
        one["reason"] for one in found["stores"] if one["store"] == "chroma"
    )
    assert codes(elsewhere) == set()


def test_a_deployed_kind_of_store_that_cannot_be_tried_is_a_finding() -> None:
    tried = [Support("chunk", "chroma", None, None, for_everybody=False)]

    assert [one.code for one in support_findings(tried, frozenset({"chroma", "cabinet"}), Policies([]))] == [
        "store-not-tried"
    ]


def test_a_residual_outside_the_fragment_is_named_by_its_rule() -> None:
    document = {"action": "chunk.read"}
    refused = Compiled(
        LISTINGS[0],
        Sample("fay", SUBJECT),
        document,
        None,
        "data.regate.chunk.odd: builtin lower",
        "data.regate.chunk.odd",
    )

    (finding,) = fragment_findings([refused], {"data.regate.chunk.odd": ("chunk/chunk.rego", 7)})

    assert (finding.file, finding.row, finding.code) == ("chunk/chunk.rego", 7, "not-in-fragment")
    assert finding.message.startswith("data.regate.chunk.odd: builtin lower; write")


def test_what_a_custom_rule_did_wrong_is_told_at_its_own_line_and_nothing_is_compiled(write: Write) -> None:
    policy = write(
        "custom/chunk/chunk.rego", 'package regate.custom.chunk\n\ndeny if lower(input.chunk.owner) == "x"\n'
    )

    found = report(["--policy", str(policy), "--store", "memory"])

    told = [
        (one["file"], one["row"])
        for check in found["checks"]
        for one in check["findings"]
        if check["name"] == "authoring"
    ]
    assert set(told) == {("custom/chunk/chunk.rego", 3)}
    assert {status(found)[name] for name in ("filters", "stores", "agreement")} == {"not_run"}


def test_a_rule_that_nothing_consults_is_told_at_its_line(write: Write) -> None:
    found = report(
        [
            "--policy",
            str(
                write(
                    "custom/chunk/chunk.rego",
                    "package regate.custom.chunk\n\ndney if input.chunk.level == 9\n",
                )
            ),
        ]
    )

    (finding,) = next(check["findings"] for check in found["checks"] if check["name"] == "filters")
    assert (finding["file"], finding["row"]) == ("custom/chunk/chunk.rego", 3)
    assert finding["message"].startswith("nothing consults regate.custom.chunk.dney: correct its name")


def test_a_control_that_is_not_there_is_told_at_its_line(write: Write) -> None:
    found = report(
        [
            "--policy",
            str(write("custom/chunk/chunk.rego", "package regate.custom.chunk\n\nredact := [`x`]\n")),
        ]
    )

    (finding,) = next(check["findings"] for check in found["checks"] if check["name"] == "controls")
    assert (finding["file"], finding["row"], finding["code"]) == (
        "custom/chunk/chunk.rego",
        3,
        "no-such-control",
    )
    assert status(found)["filters"] == "not_run"


def test_a_warning_fails_nothing_and_is_told_with_what_to_write(write: Write) -> None:
    text = "package regate.custom.chunk\n\ndeny if input.chunk.owner != input.principal.attrs.manager\n"
    policy = write("custom/chunk/chunk.rego", text)

    found = report(["--policy", str(policy), "--store", "memory"])
    printed = run(["--policy", str(policy), "--only", "absences"])

    (warning,) = next(check["warnings"] for check in found["checks"] if check["name"] == "absences")
    assert (warning["file"], warning["row"], warning["code"]) == (
        "custom/chunk/chunk.rego",
        3,
        "granted-by-absence",
    )
    assert (found["ok"], printed.exit_code, codes(found)) == (True, 0, set())
    assert (
        "warning: custom/chunk/chunk.rego:3: granted-by-absence: the principal may have no manager"
        in printed.output
    )


PLACES = {"data.regate.chunk.allow": ("chunk/chunk.rego", 5)}
SUBJECT = Principal("fay", "acme", clearance=2)
CLEARED = Compare("le", ("level",), 2)
OURS = Compare("eq", ("tenant",), "acme")
RULE = (
    "allow if {\n\tinput.chunk.tenant == input.principal.tenant\n\tinput.chunk.level <= "
    "input.principal.clearance\n}"
)


def decided_otherwise(plan: FilterPlan, policies: Path, opa: Path) -> list[str]:
    document = {"v": 1, "now": 1, "request_id": "r", "action": "chunk.read", "principal": SUBJECT.as_input()}
    compiled = Compiled(LISTINGS[0], Sample("fay", SUBJECT), document, plan, None)
    tried, findings = disagreements(
        [compiled], read_schemas(policies)[0], PLACES, opa=OpaCommand(opa, policies), effort=QUICK
    )
    assert tried > 50
    return [finding.message for finding in findings]


def test_a_filter_that_agrees_with_the_rule_on_every_row_is_no_finding(write: Write, opa: Path) -> None:
    assert decided_otherwise(plan_of(all_of([OURS, CLEARED])), chunk_rule(write, RULE), opa) == []


def test_rules_that_contradict_each_other_are_an_error_of_evaluation(write: Write, opa: Path) -> None:
    policy = chunk_rule(
        write, 'allow if input.chunk.tenant == "acme"\n\nallow := false if input.chunk.legal_hold == true'
    )
    compiled = Compiled(
        LISTINGS[0], Sample("fay", SUBJECT), {"principal": SUBJECT.as_input()}, plan_of(OURS), None
    )

    tried, findings = disagreements(
        [compiled], read_schemas(policy)[0], PLACES, opa=OpaCommand(opa, policy), effort=QUICK
    )

    assert (tried, [(one.file, one.code) for one in findings]) == (
        0,
        [("chunk/chunk.rego", "evaluation-error")],
    )


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (
            plan_of(all_of([OURS, replace(CLEARED, operator="lt")])),
            "leaves it out, and full evaluation allows it",
        ),
        (plan_of(all_of([OURS, replace(CLEARED, value=3)])), "admits it, and full evaluation denies it"),
        (plan_of(OURS), "admits it, and full evaluation denies it"),
        (plan_of(CLEARED), "admits it, and full evaluation denies it"),
    ],
)
def test_a_filter_that_differs_at_one_boundary_is_found_out_with_the_row(
    plan: FilterPlan, says: str, write: Write, opa: Path
) -> None:
    messages = decided_otherwise(plan, chunk_rule(write, RULE), opa)

    assert messages
    assert all(says in message and '"level":' in message for message in messages)


def test_further_principals_are_compiled_for(policies: Path, tmp_path: Path) -> None:
    samples = tmp_path / "samples.json"
    samples.write_text(
        json.dumps([{"name": "auditor", "id": "amy", "tenant": "acme", "roles": ["auditor"], "clearance": 9}])
    )

    found = report(["--policy", str(policies), "--samples", str(samples)])

    assert next(check["summary"] for check in found["checks"] if check["name"] == "filters").endswith(
        "for 7 principals"
    )


@pytest.mark.parametrize(
    "content", ["{", "[]", '[{"id": "amy"}]', '[{"id": "amy", "tenant": "acme", "clearance": "9"}]']
)
def test_samples_that_are_no_principals_are_wrong_usage(content: str, tmp_path: Path) -> None:
    samples = tmp_path / "samples.json"
    samples.write_text(content)

    result = run(["--samples", str(samples)])

    assert (result.exit_code, "--samples" in result.output) == (2, True)


@pytest.mark.parametrize(
    "arguments", [["--policy", "no/such/directory"], ["--store", "filing-cabinet"], ["--quik"]]
)
def test_wrong_usage_ends_with_two(arguments: list[str]) -> None:
    assert run(arguments).exit_code == 2


def test_a_directory_without_policies_is_a_finding(tmp_path: Path) -> None:
    assert codes(report(["--policy", str(tmp_path)])) == {(str(tmp_path), "no-policies")}


def test_the_revision_that_is_reported_is_that_of_the_content(policies: Path) -> None:
    assert report(["--policy", str(policies)])["content"] == read_source(policies).revision


def linter(folder: Path, says: str) -> str:
    """A PATH on which `regal` answers so. The linter is another project's program; its report is read
    as it documents it.
    """
    folder.mkdir()
    program = folder / "regal"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{says}\nEND\nexit 3\n")
    program.chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


VIOLATION = {
    "title": "leaked-internal-reference",
    "description": "Outside reference to internal rule",
    "category": "bugs",
    "level": "error",
}


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        (
            json.dumps({"violations": [VIOLATION | {"location": {"file": "chunk/chunk.rego", "row": 9}}]}),
            Finding(
                "regal-bugs-leaked-internal-reference",
                "Outside reference to internal rule",
                "chunk/chunk.rego",
                9,
            ),
        ),
        ("panic", None),
    ],
)
def test_what_the_linter_finds_is_a_finding_and_so_is_its_failure(
    says: str,
    expected: Finding | None,
    policies: Path,
    tmp_path: Path,
    opa: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", linter(tmp_path / "bin", says))

    (finding,) = run_regal(OpaCommand(opa, policies), [Path()]).findings

    assert (finding.code == "regal-failed") if expected is None else (finding == expected)
