"""What a check of policies comes to: findings gathered into one outcome per check.

Not how they are printed or which checks there are; that is `checks.py`.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from regate_adapters.opa.acceptance.findings import Finding, one_a_line

Status: TypeAlias = Literal["ok", "failed", "not_run"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one check came to. It failed when it found something, if only on lines that were told of
    before; warnings fail nothing.
    """

    name: str
    status: Status
    summary: str
    findings: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()

    @property
    def failed(self) -> bool:
        """Return whether something is wrong."""
        return self.status == "failed"


def outcome(name: str, summary: str, findings: Sequence[Finding] = ()) -> Outcome:
    """Return the outcome of a check that ran: `ok` with the summary, or failed with the number of
    findings.
    """
    unique = tuple(one_a_line(findings))
    if not unique:
        return Outcome(name, "ok", summary)
    return Outcome(name, "failed", _counted(len(unique), "finding"), unique)


def warned(name: str, summary: str, warnings: Sequence[Finding]) -> Outcome:
    """Return the outcome of a check that only warns: `ok` with the summary, or with the number of
    warnings.
    """
    unique = tuple(one_a_line(warnings))
    return Outcome(name, "ok", _counted(len(unique), "warning") if unique else summary, warnings=unique)


def without(done: Outcome, told: Container[tuple[str, int]]) -> Outcome:
    """Return the outcome without what it says of lines that were told of before: what is wrong there
    shows itself in several ways.
    """
    findings = tuple(one for one in done.findings if (one.file, one.row) not in told)
    warnings = tuple(one for one in done.warnings if (one.file, one.row) not in told)
    if (findings, warnings) == (done.findings, done.warnings):
        return done
    left = (
        _counted(len(findings), "finding")
        if findings
        else _counted(len(warnings), "warning")
        if warnings
        else "for a line above"
    )
    return replace(done, findings=findings, warnings=warnings, summary=left)


def not_run(name: str, why: str) -> Outcome:
    """Return the outcome of a check that could not run, which is no failure by itself."""
    return Outcome(name, "not_run", why)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number > 1 else ''}"
