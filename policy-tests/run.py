"""All checks of the policies: format, types against the schemas, tests with full coverage, the filter
fragment, conventions, odd inputs, operators' documents, the bundle.

`python policy-tests/run.py` prints one line a check and exits with 1 when any fails. `--mutants` adds a slow
one: with each condition of each rule left out in turn, some test must fail. `--bench` measures each
entrypoint instead.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import bench
import conventions
import documents
import fragment
import hostile
import mutants
import opa

_FOLDERS: Final = (str(opa.POLICIES), str(opa.TESTS))


def check_format() -> str:
    """Return a summary; raises `Fault` naming the files that `opa fmt` would change."""
    opa.call("fmt", "--fail", "--list", *_FOLDERS)
    return (
        f"{len(list(opa.POLICIES.rglob('*.rego')))} policies, {len(list(opa.TESTS.rglob('*.rego')))} test "
        "files"
    )


def check_types() -> str:
    """Return a summary; raises `Fault` for what does not compile strictly, or names a key that the
    schemas do not have.
    """
    opa.call("check", "--strict", "--schema", str(opa.SCHEMAS), str(opa.POLICIES))
    opa.call("check", "--strict", "--ignore", "schemas", *_FOLDERS)
    return f"{len(list(opa.SCHEMAS.rglob('*.json')))} schemas"


def check_tests() -> str:
    """Return how many cases passed; raises `Fault` with the failures."""
    report = opa.call("test", *_FOLDERS, *opa.TEST_ARGUMENTS)
    return report.strip().splitlines()[-1].removeprefix("PASS: ").split("/")[0] + " cases"


def check_coverage() -> str:
    """Return the coverage; raises `Fault` with the lines of the policies that no test reaches."""
    report = json.loads(opa.call("test", *_FOLDERS, *opa.TEST_ARGUMENTS, "--coverage", "--format", "json"))
    missed = [
        f"{name}:{lines['start']['row']}"
        for name, file in report["files"].items()
        if name.startswith(str(opa.POLICIES))
        for lines in file.get("not_covered", [])
    ]
    if missed or report["coverage"] < 100:
        raise opa.Fault(f"{report['coverage']} %; not covered: {', '.join(missed) or 'lines of the tests'}")
    return f"{report['coverage']} % of {report['covered_lines']} lines"


def check_fragment() -> str:
    """Return a summary; raises `Fault` for rules that no filter can follow."""
    _refuse(list(fragment.faults()))
    return f"{len(fragment.FILTERS)} filters"


def check_conventions() -> str:
    """Return a summary; raises `Fault` for breaches."""
    _refuse(list(conventions.faults()))
    return f"{len(conventions.ENTRYPOINTS)} entrypoints"


def check_hostile() -> str:
    """Return how many odd inputs were answered; raises `Fault` when one makes the evaluation fail."""
    return f"{hostile.check(opa.POLICIES)} odd inputs"


def check_documents() -> str:
    """Return how many operators' documents match their schemas; raises `Fault` for those that do not."""
    _refuse(list(documents.faults(opa.POLICIES)))
    return f"{documents.count(opa.POLICIES)} documents"


def check_bundle() -> str:
    """Return the size of a bundle built from the policies; raises `Fault` when none can be built."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "bundle.tar.gz"
        opa.call("build", "--bundle", str(opa.POLICIES), "--output", str(target))
        return f"{target.stat().st_size} bytes"


def check_mutants() -> str:
    """Return how many were found out; raises `Fault` with the conditions that no test needs."""
    tried, survivors = mutants.hunt()
    _refuse(survivors)
    return f"{tried} found out"


CHECKS: Final[dict[str, Callable[[], str]]] = {
    "format": check_format,
    "types": check_types,
    "tests": check_tests,
    "coverage": check_coverage,
    "fragment": check_fragment,
    "conventions": check_conventions,
    "hostile": check_hostile,
    "documents": check_documents,
    "bundle": check_bundle,
}


def main(arguments: list[str]) -> int:
    """Return the exit status after running every check, whichever fail."""
    if "--bench" in arguments:
        return _measure_all()
    checks = CHECKS | ({"mutants": check_mutants} if "--mutants" in arguments else {})
    failed = 0
    for name, check in checks.items():
        try:
            sys.stdout.write(f"policy {name:<12} ok    {check()}\n")
        except opa.Fault as fault:
            failed += 1
            sys.stdout.write(f"policy {name:<12} FAILED\n{fault}\n")
        sys.stdout.flush()
    return 1 if failed else 0


def _measure_all() -> int:
    try:
        for rule, given in bench.cases():
            nanoseconds, allocations = bench.measure(rule, given)
            sys.stdout.write(
                f"{rule:<24} {given.parent.name:<22} {nanoseconds:>10} ns/op {allocations:>8} allocs/op\n"
            )
            sys.stdout.flush()
    except opa.Fault as fault:
        sys.stdout.write(f"{fault}\n")
        return 1
    return 0


def _refuse(faults: list[str]) -> None:
    if faults:
        raise opa.Fault("\n".join(faults))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
