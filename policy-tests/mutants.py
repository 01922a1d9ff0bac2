"""Mutants: each condition of each rule left out in turn. A mutant that all tests still pass is a condition
that no test needs.

Coverage counts lines that were reached; one passing case reaches every line of a conjunction. This shows that
each of them matters.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import hostile
import opa

_CONDITION: Final = re.compile(r"^\t[^\t}#].*$")
_OPENS: Final = re.compile(r"^\S.*\bif \{$")


def hunt() -> tuple[int, list[str]]:
    """Return how many mutants were tried, and which survived, as file and line."""
    tried, survivors = 0, []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "rego"
        shutil.copytree(opa.POLICIES, copy)
        for path in sorted(opa.POLICIES.rglob("*.rego")):
            target = copy / path.relative_to(opa.POLICIES)
            text = path.read_text(encoding="utf-8")
            for number, mutant in _mutants(text):
                target.write_text(mutant, encoding="utf-8")
                tried += 1
                if _passes(copy):
                    survivors.append(
                        f"{path.relative_to(opa.ROOT)}:{number}: no test needs "
                        f"`{text.splitlines()[number - 1].strip()}`"
                    )
            target.write_text(text, encoding="utf-8")
    return tried, survivors


def _mutants(text: str) -> Iterator[tuple[int, str]]:
    lines = text.splitlines()
    inside = False
    for number, line in enumerate(lines, start=1):
        if _OPENS.match(line) or line == "} if {":
            inside = True
        elif line.startswith("}"):
            inside = False
        elif inside and _CONDITION.match(line):
            left = _without(lines, number - 1)
            yield number, "\n".join(left) + "\n"


def _without(lines: list[str], index: int) -> list[str]:
    """Return the lines with the condition that begins there replaced by one that always holds, its own
    block included.
    """
    end = index
    if lines[index].endswith(("{", "(", "[")):
        end = next(later for later in range(index + 1, len(lines)) if re.match(r"^\t[^\t\s]", lines[later]))
    return [*lines[:index], "\ttrue", *lines[end + 1 :]]


def _passes(policies: Path) -> bool:
    try:
        opa.call("test", str(policies), str(opa.TESTS), *opa.TEST_ARGUMENTS)
        hostile.check(policies)
    except opa.Fault:
        return False
    return True
