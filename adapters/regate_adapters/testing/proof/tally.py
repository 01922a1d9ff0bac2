"""What the proof counted, and whether it proves anything: decisions, refusals with their reasons, and how
telling the comparisons were.

A comparison in which nothing, or everything, is permitted would also pass with a filter that ignores the
policy. So a run is *degenerate*, and fails, unless a fair share of the plans permit some rows and not all.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from regate_adapters.testing.proof.oracle import UniverseName
from regate_adapters.testing.proof.rows import LISTS, SCALARS

MIN_TELLING: Final = 0.25
"""The least share of compared plans that must permit some rows and not all."""
MIN_ACCEPTED: Final = 0.1
"""The least share of plans that a target must accept; one that refuses all would never be wrong."""

_FIELD: Final = re.compile(rf"\b({'|'.join((*SCALARS, *LISTS))})\b")
_VALUES: Final = re.compile(
    r"(?<=\bdata\.)[\w.]+|\b(eq|ne|lt|le|gt|ge)\b(?= <field>)|\bset\([^)]*\)|\d+(?= arguments)"
)
_SHOWN_REASONS: Final = 6


@dataclass(slots=True)
class Tally:
    """The count for one target in one universe. `plans` includes those of policies that may not be loaded,
    and those that the translator refused.

    `wider` counts the filters that let through what the rule denies, were it one row.
    """

    target: str
    universe: UniverseName
    plans: int = 0
    decisions: int = 0
    permitted: int = 0
    telling: int = 0
    mismatches: int = 0
    wider: int = 0
    refused_at_load: int = 0
    unloaded: Counter[str] = field(default_factory=Counter)
    untranslated: Counter[str] = field(default_factory=Counter)
    inexpressible: Counter[str] = field(default_factory=Counter)

    @property
    def accepted(self) -> int:
        """Return how many plans were compared."""
        return self.plans - self.refused_at_load - self.untranslated.total() - self.inexpressible.total()

    def compared(self, *, permitted: int, rows: int, wrong: int, wider: bool) -> None:
        """Count one compared plan, and the decisions in it."""
        self.wider += wider
        self.decisions += rows
        self.permitted += permitted
        self.telling += 0 < permitted < rows
        self.mismatches += wrong

    def faults(self) -> list[str]:
        """Return why this count proves nothing, or disproves; empty when it is a proof."""
        who = f"{self.target} on {self.universe} rows"
        found = [f"{who}: {self.mismatches} decisions differ from full evaluation"] if self.mismatches else []
        found += [f"{who}: {self.wider} filters are wider than the rule"] if self.wider else []
        if self.accepted < MIN_ACCEPTED * self.plans or not self.accepted:
            found.append(f"{who}: degenerate, only {self.accepted} of {self.plans} plans were accepted")
        elif self.telling < MIN_TELLING * self.accepted:
            found.append(
                f"{who}: degenerate, only {self.telling} of {self.accepted} plans permit some rows and "
                "not all"
            )
        return found


def reason_of(detail: str) -> str:
    """Return a refusal's reason without the names and values of the one policy, so that reasons can be
    counted.
    """
    return _VALUES.sub("…", _FIELD.sub("<field>", detail))


def table(tallies: Iterable[Tally]) -> str:
    """Return the counts and the reasons of refusals as text."""
    rows = [
        (
            "target",
            "rows",
            "decisions",
            "mismatches",
            "wider than the rule",
            "plans",
            "accepted",
            "refused at load",
            "by OPA's residual",
            "by the target",
            "telling",
            "permitted",
        )
    ]
    for tally in tallies:
        accepted, plans = tally.accepted, max(tally.plans, 1)
        rows.append(
            (
                tally.target,
                tally.universe,
                f"{tally.decisions:,}",
                f"{tally.mismatches:,}",
                f"{tally.wider:,}",
                f"{tally.plans:,}",
                _share(accepted, plans),
                _share(tally.refused_at_load, plans),
                _share(tally.untranslated.total(), plans),
                _share(tally.inexpressible.total(), plans),
                _share(tally.telling, accepted),
                _share(tally.permitted, tally.decisions),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join([*lines, "", *_reasons(tallies)])


def _reasons(tallies: Iterable[Tally]) -> list[str]:
    told: dict[str, Counter[str]] = {}
    for tally in tallies:
        # Each target of a universe is handed the same plans, so what was refused before is told once.
        told.setdefault(f"findings of the load check, {tally.universe} rows", tally.unloaded)
        told.setdefault(f"refused by the translator, {tally.universe} rows", tally.untranslated)
        told.setdefault(f"refused by {tally.target}, {tally.universe} rows", tally.inexpressible)
    lines: list[str] = []
    for title, reasons in told.items():
        if reasons:
            lines.append(f"{title}: {reasons.total():,}")
            lines += [f"  {count:>7,}  {reason}" for reason, count in reasons.most_common(_SHOWN_REASONS)]
            rest = reasons.total() - sum(count for _, count in reasons.most_common(_SHOWN_REASONS))
            lines += [f"  {rest:>7,}  for {len(reasons) - _SHOWN_REASONS} other reasons"] if rest else []
    return lines


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"
