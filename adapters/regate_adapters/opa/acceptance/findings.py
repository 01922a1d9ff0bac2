"""A finding: one thing that is wrong with policies, with its place and a stable code. How findings are
gathered and printed is others' business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

_RANKS: Final[Mapping[str, int]] = {
    "wall-clock": 0,
    "no-functions": 0,
    "comprehension-over-row": 0,
    "computed-from-row": 2,
    "may-fail": 3,
}
"""Of several things that are wrong with a line, which is told of: what says most precisely what to
write, rather than what follows from it.
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `code` is stable; `message` says what is wrong and what to write
    instead; `row` 0 means the whole file.
    """

    code: str
    message: str
    file: str
    row: int = 0

    def __str__(self) -> str:
        place = f"{self.file}:{self.row}" if self.row else self.file
        return f"{place}: {self.code}: {self.message}"


def one_a_line(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings without repetition, and of those about one line the most helpful one. Those
    about whole files all stay.
    """
    told: dict[object, Finding] = {}
    for one in findings:
        place = (one.file, one.row) if one.row else one
        if place not in told or _rank(one) < _rank(told[place]):
            told[place] = one
    return list(told.values())


def _rank(finding: Finding) -> int:
    return _RANKS.get(finding.code, 1)
