"""The checks that others' tools make: `opa fmt`, `opa check`, `opa test`, and Regal where it is
installed. Each becomes one outcome.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from regate_adapters.opa.acceptance.findings import Finding
from regate_gateway.workbench.check.findings import Outcome, not_run, outcome
from regate_gateway.workbench.opa_command import OpaCommand, reported_errors

_TEST_FILES: Final = "*_test.rego"
_NO_DATA: Final = (
    "--ignore",
    "schemas",
    "--ignore",
    "bench",
)  # JSON files that OPA would merge into one document
_TEST_LIMIT: Final = "60s"  # OPA's own, of five seconds, fails tests on a busy machine
_DEADLINE_SECONDS: Final = 120


def find_tests(directory: Path) -> Path | None:
    """Return the folder with the tests of a policy directory: within it or beside it; None when there
    are none.
    """
    for folder in (directory, directory.parent / "policy-tests", directory.parent / "tests"):
        if folder.is_dir() and next(folder.rglob(_TEST_FILES), None) is not None:
            return folder
    return None


def check_format(opa: OpaCommand, folders: Sequence[Path]) -> Outcome:
    """Return which files `opa fmt` would change."""
    said = opa.run("fmt", "--list", *map(str, folders))
    if said.status:
        return outcome("format", "", reported_errors(said, "opa-fmt"))
    names = [shown(Path(line), opa.directory) for line in said.out.decode().splitlines() if line]
    return outcome(
        "format",
        "as opa fmt writes",
        [Finding("opa-fmt", "is not formatted; run `opa fmt --write` on it", name) for name in names],
    )


def check_types(opa: OpaCommand) -> Outcome:
    """Return what `opa check --strict` refuses, with the schemas where the directory has any."""
    has_schemas = (opa.directory / "schemas").is_dir()
    said = opa.run(
        "check",
        "--strict",
        "--format",
        "json",
        *(("--schema", "schemas") if has_schemas else ()),
        "--bundle",
        ".",
    )
    return outcome(
        "types",
        "strict, with schemas" if has_schemas else "strict",
        reported_errors(said, "opa-check") if said.status else [],
    )


def run_tests(opa: OpaCommand, tests: Path | None) -> Outcome:
    """Return which tests fail; not run when there are none."""
    if tests is None:
        return not_run("tests", "no tests beside the policies; name their folder with --tests")
    folders = (".",) if tests == opa.directory else (".", str(tests))
    said = opa.run(
        "test", *folders, *_NO_DATA, "--fail-on-empty", "--timeout", _TEST_LIMIT, "--format", "json"
    )
    try:
        results = json.loads(said.out)
    except ValueError:
        results = None
    if not isinstance(results, list) or not results:
        return outcome("tests", "", reported_errors(said, "test-error"))
    findings = [
        _failed(result, opa.directory) for result in results if result.get("fail") or result.get("error")
    ]
    if said.status and not findings:
        findings = reported_errors(said, "test-error")
    return outcome("tests", f"{len(results)} passed", findings)


def run_regal(opa: OpaCommand, folders: Sequence[Path]) -> Outcome:
    """Return what the linter Regal finds; not run where it is not installed."""
    regal = shutil.which("regal")
    if regal is None:
        return not_run("regal", "Regal is not on PATH")
    command = [regal, "lint", "--format", "json", *map(str, folders)]
    home = {"PATH": os.environ.get("PATH", ""), "HOME": os.environ.get("HOME", "")}
    try:
        done = subprocess.run(
            command, cwd=opa.directory, capture_output=True, check=False, timeout=_DEADLINE_SECONDS, env=home
        )
        violations = json.loads(done.stdout)["violations"]
        findings = [
            _violation(one, opa.directory) for one in violations if one.get("level", "error") == "error"
        ]
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError) as error:
        return outcome(
            "regal",
            "",
            [Finding("regal-failed", f"Regal gave no report ({error!r}); run it by hand to see why", ".")],
        )
    return outcome("regal", "nothing found", findings)


def shown(path: Path, directory: Path) -> str:
    """Return a path as findings name it: relative to the policy directory, else to its parent or to
    where we are.
    """
    absolute = (directory / path).resolve()
    for root, prefix in ((directory.resolve(), ""), (directory.resolve().parent, "../"), (Path.cwd(), "")):
        if absolute.is_relative_to(root):
            return prefix + absolute.relative_to(root).as_posix()
    return absolute.as_posix()


def _failed(result: dict[str, Any], directory: Path) -> Finding:
    location = result.get("location") or {}
    failed_cases = [name for name, case in (result.get("sub_results") or {}).items() if case.get("fail")]
    cases = f" for {', '.join(failed_cases)}" if failed_cases else ""
    error = (result.get("error") or {}).get("message", "")
    message = f"{result['package']}.{result['name']} fails{cases}{': ' + error if error else ''}"
    return Finding(
        "test-failed", message, shown(Path(location.get("file", ".")), directory), int(location.get("row", 0))
    )


def _violation(one: dict[str, Any], directory: Path) -> Finding:
    location = one.get("location") or {}
    code = f"regal-{one['category']}-{one['title']}"
    return Finding(
        code,
        str(one["description"]),
        shown(Path(location.get("file", ".")), directory),
        int(location.get("row", 0)),
    )
