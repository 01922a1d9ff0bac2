"""What each entrypoint costs inside OPA, measured with `opa bench` on the inputs in `bench/`. Numbers to
compare on change, not a check.

`bench/<package>/input.json` serves every entrypoint of the package, `bench/<package>.<rule>/…` one rule; any
other `bench/<package>.<name>/…` is one more case of the package's first entrypoint. (One folder each, as OPA
would take files of one folder for parts of one document.)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import conventions
import opa

_INPUTS: Final = opa.TESTS / "bench"

# As shipped nothing is said of any model, and what is undefined cannot be measured.
_UNDEFINED_AS_SHIPPED: Final = {"route.backend"}


def cases() -> Iterator[tuple[str, Path]]:
    """Yield every rule to measure with its input; raises `Fault` for an entrypoint without one."""
    rules = sorted({path.replace("/", ".") for path in conventions.ENTRYPOINTS} - _UNDEFINED_AS_SHIPPED)
    inputs = {path.parent.name: path for path in sorted(_INPUTS.glob("*/input.json"))}
    for rule in rules:
        package = rule.rpartition(".")[0]
        if package not in inputs:
            raise opa.Fault(f"{rule}: needs policy-tests/bench/{package}/input.json")
        yield rule, inputs.get(rule, inputs[package])
    for name, path in inputs.items():
        package = name.rpartition(".")[0]
        if name not in rules and package in inputs:
            yield next(rule for rule in rules if rule.rpartition(".")[0] == package), path


def measure(rule: str, given: Path) -> tuple[int, int]:
    """Return nanoseconds and allocations of one evaluation; raises `Fault` when the rule is undefined
    for the input.
    """
    arguments = ("--bundle", str(opa.POLICIES), "--input", str(given), f"data.regate.{rule}")
    if "result" not in opa.read("eval", *arguments, "--format", "json"):
        raise opa.Fault(f"{rule}: is undefined for {given.parent.name}, so nothing would be measured")
    report = json.loads(opa.call("bench", *arguments, "--format", "json"))
    return report["T"] // report["N"], report["MemAllocs"] // report["N"]
