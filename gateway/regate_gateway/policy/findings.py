"""What a check of policies comes to: findings gathered into one outcome per check.

Not how they are printed or which checks there are; that is `check.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from regate_adapters.opa.acceptance.findings import Finding

Status: TypeAlias = Literal["ok", "failed", "not_run"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one check came to. It failed exactly when it has findings; warnings fail nothing."""

    name: str
    status: Status
    summary: str
    findings: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()


def outcome(name: str, summary: str, findings: Sequence[Finding] = ()) -> Outcome:
    """Return the outcome of a check that ran: `ok` with the summary, or failed with the number of findings."""
    unique = tuple(dict.fromkeys(findings))
    if not unique:
        return Outcome(name, "ok", summary)
    return Outcome(name, "failed", _counted(len(unique), "finding"), unique)


def warned(name: str, summary: str, warnings: Sequence[Finding]) -> Outcome:
    """Return the outcome of a check that only warns: `ok` with the summary, or with the number of warnings."""
    unique = tuple(dict.fromkeys(warnings))
    return Outcome(name, "ok", _counted(len(unique), "warning") if unique else summary, warnings=unique)


def not_run(name: str, why: str) -> Outcome:
    """Return the outcome of a check that could not run, which is no failure by itself."""
    return Outcome(name, "not_run", why)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number > 1 else ''}"
