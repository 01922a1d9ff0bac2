"""What became of a text that guards looked at: whether it goes further, and what is taken out of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from regate_orchestrator.authz.answers import GuardAction
from regate_orchestrator.ports import Findings, Span

BLOCKED_TEXT: Final = "[blocked]"
"""What stands in the place of a text that may go no further, where something must stand."""
_NOT_IN_A_NAME: Final = re.compile(r"[^\w./-]+")


def marker(name: str) -> str:
    """Return what stands in the place of what was taken out. It needs no escaping in any JSON text."""
    return f"[redacted: {_NOT_IN_A_NAME.sub('_', name)}]" if name else "[redacted]"


@dataclass(frozen=True, slots=True)
class Checked:
    """A text's fate. `cuts` are the places to take out, in order and apart from each other; `is_whole` says
    that this is all of the text, for want of places.
    """

    action: GuardAction = "pass"
    cuts: tuple[Span, ...] = ()
    is_whole: bool = False

    @property
    def is_blocked(self) -> bool:
        """Whether the text may go no further."""
        return self.action == "block"

    def of(self, text: str) -> str:
        """Return what may go further of the text that was checked."""
        return self.of_pieces([text])[0]

    def of_pieces(self, pieces: Sequence[str]) -> list[str]:
        """Return what may go further of the pieces whose concatenation was checked. A marker stands where the
        place begins.
        """
        if self.is_blocked:
            return [BLOCKED_TEXT if place == 0 else "" for place in range(len(pieces))]
        if not self.cuts:
            return list(pieces)
        left: list[str] = []
        start = 0
        for piece in pieces:
            left.append(self._of_piece(piece, start))
            start += len(piece)
        return left

    def _of_piece(self, piece: str, start: int) -> str:
        kept: list[str] = []
        end, at = start + len(piece), start
        for cut in self.cuts:
            if cut.end <= at or cut.start >= end:
                continue
            kept.append(piece[at - start : max(cut.start, at) - start])
            if cut.start >= at:
                kept.append(marker(cut.name))
            at = min(cut.end, end)
        return "".join((*kept, piece[at - start :]))


PASSED: Final = Checked()


def redacted(findings: Findings, names: frozenset[str], length: int) -> Checked:
    """Return the fate of a text of this length from which everything under the names is taken out: all of it
    where a name has no place.
    """
    spans = [span for span in findings.spans if span.name in names and span.start < span.end]
    if names and names <= {span.name for span in spans}:
        return Checked("redact", merged(spans))
    name = next(iter(names)) if len(names) == 1 else ""
    return Checked("redact", (Span(0, length, name),), is_whole=True)


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Return the spans in order, those that overlap as one under the name of the first."""
    apart: list[Span] = []
    for span in sorted(spans, key=lambda one: (one.start, -one.end, one.name)):
        if apart and span.start < apart[-1].end:
            apart[-1] = Span(apart[-1].start, max(apart[-1].end, span.end), apart[-1].name)
        else:
            apart.append(span)
    return tuple(apart)
