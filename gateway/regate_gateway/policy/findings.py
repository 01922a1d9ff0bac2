"""What a check of policies says: findings, each with its place and a stable code, gathered into one outcome per check.

Not how they are printed or which checks there are; that is `check.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Status: TypeAlias = Literal["ok", "failed", "not_run"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `code` is stable; `message` says what is wrong and what to write instead; `row` 0 means the whole file."""

    code: str
    message: str
    file: str
    row: int = 0

    def __str__(self) -> str:
        place = f"{self.file}:{self.row}" if self.row else self.file
        return f"{place}: {self.code}: {self.message}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one check came to. It failed exactly when it has findings."""

    name: str
    status: Status
    summary: str
    findings: tuple[Finding, ...] = ()


def outcome(name: str, summary: str, findings: Sequence[Finding] = ()) -> Outcome:
    """Return the outcome of a check that ran: `ok` with the summary, or failed with the number of findings."""
    unique = tuple(dict.fromkeys(findings))
    if not unique:
        return Outcome(name, "ok", summary)
    return Outcome(name, "failed", f"{len(unique)} finding{'s' if len(unique) > 1 else ''}", unique)


def not_run(name: str, why: str) -> Outcome:
    """Return the outcome of a check that could not run, which is no failure by itself."""
    return Outcome(name, "not_run", why)
