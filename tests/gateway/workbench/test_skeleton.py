"""`regate policy init`: what it makes passes its own checks, its README's path leads where it says,
and it overwrites nothing.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from regate_gateway.cli.main import main


def regate(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["policy", *map(str, arguments)])


def checked(team: Path) -> dict[str, Any]:
    result = regate("check", "--overlay", team / "overlay", "--tests", team / "tests", "--json")
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def failures_of(report: dict[str, Any]) -> list[str]:
    return [
        finding["message"]
        for check in report["checks"]
        if check["name"] == "tests"
        for finding in check["findings"]
    ]


@pytest.fixture
def team(tmp_path: Path) -> Path:
    assert regate("init", tmp_path / "team").exit_code == 0
    return tmp_path / "team"


def test_what_is_made_passes_the_check(team: Path) -> None:
    report = checked(team)

    assert [finding for check in report["checks"] for finding in check["findings"]] == []
    assert {"name": "tests", "status": "ok"}.items() <= next(
        check for check in report["checks"] if check["name"] == "tests"
    ).items()


def test_its_ci_runs_what_its_makefile_has(team: Path) -> None:
    workflow = yaml.safe_load((team / ".github/workflows/policy.yml").read_text())
    runs = [
        step["run"] for step in workflow["jobs"]["policy"]["steps"] if step.get("run", "").startswith("make ")
    ]
    targets = set(re.findall(r"^([a-z]+):", (team / "Makefile").read_text(), re.MULTILINE))

    assert {run.removeprefix("make ") for run in runs} == {"test", "check", "bundle"}
    assert {run.removeprefix("make ") for run in runs} <= targets
    assert not re.search(r"@[A-Z]+@", (team / ".github/workflows/policy.yml").read_text())


def test_the_assembled_directory_is_what_its_own_tests_run_on(team: Path, opa: Path) -> None:
    assert (
        regate("assemble", "--overlay", team / "overlay", "--output", team / "build" / "policy").exit_code
        == 0
    )

    command = [opa, "test", "build/policy", "tests", "--ignore", "schemas", "--fail-on-empty"]
    done = subprocess.run(command, cwd=team, capture_output=True, text=True)

    assert (done.returncode, "FAIL" in done.stdout, list((team / "build").rglob("*_test.rego"))) == (
        0,
        False,
        [],
    )


def test_the_ten_minute_path_of_its_readme_leads_where_it_says(team: Path, tmp_path: Path) -> None:
    attribute, stamp, cases, rule = re.findall(
        r"```(?:json|rego)\n(.*?)```", (team / "README.md").read_text(), re.DOTALL
    )
    assert regate("assemble", "--overlay", team / "overlay", "--output", tmp_path / "policy").exit_code == 0
    schema = json.loads((tmp_path / "policy/schemas/chunk.json").read_text())
    schema["properties"] |= json.loads(f"{{{attribute.strip().rstrip(',')}}}")
    schema["required"].append("region")
    (team / "overlay/schemas").mkdir()
    (team / "overlay/schemas/chunk.json").write_text(json.dumps(schema))
    (team / "overlay/custom/ingest").mkdir()
    (team / "overlay/custom/ingest/ingest.rego").write_text(stamp)
    table = team / "tests/custom/chunk/chunk_test.rego"
    text = (
        table.read_text()
        .replace('"labels": [],', '"labels": [], "region": "any",', 1)
        .replace("count(cases) == 5", "count(cases) == 7")
    )
    table.write_text(text.replace("cases := {\n", f"cases := {{\n{cases}"))

    before = checked(team)
    with (team / "overlay/custom/chunk/chunk.rego").open("a") as policy:
        policy.write(f"\n{rule}")
    after = checked(team)

    assert [re.search(r"for (.*)", message).group(1) for message in failures_of(before)] == [
        "Europe's, for somebody elsewhere"
    ]  # type: ignore[union-attr]
    assert [finding for check in after["checks"] for finding in check["findings"]] == []


@pytest.mark.parametrize("name", ["README.md", ".git"])
def test_a_directory_that_holds_anything_is_left_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")

    result = regate("init", tmp_path)

    assert (result.exit_code, [path.name for path in tmp_path.iterdir()], (tmp_path / name).read_text()) == (
        1,
        [name],
        "mine",
    )


def test_a_misspelt_custom_rule_does_not_pass_as_one_that_is_never_true(team: Path) -> None:
    rule = team / "overlay/custom/chunk/chunk.rego"
    rule.write_text(rule.read_text().replace("deny if", "denny if"))

    report = checked(team)

    assert not report["ok"]
    assert any("denny" in finding["message"] for check in report["checks"] for finding in check["findings"])


def test_an_assembly_never_writes_over_anything(team: Path) -> None:
    assert regate("assemble", "--overlay", team / "overlay", "--output", team).exit_code == 1
    assert (
        regate("assemble", "--overlay", team / "overlay", "--output", team / "overlay" / "policy").exit_code
        == 1
    )
    assert not (team / "overlay" / "policy").exists()
