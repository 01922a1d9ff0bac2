"""Plots as SVG that stands inside of a page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

_WIDTH: Final = 760
_LEFT: Final = 240
_RIGHT: Final = 80
_BAR: Final = 22
_TOP: Final = 36


def bars(title: str, rows: Sequence[tuple[str, float]], *, most: float | None = None, digits: int = 3) -> str:
    """Return the rows as bars from 0 to `most` (to the longest where it is not said), each with its figure;
    nothing of no rows.
    """
    if not rows:
        return ""
    longest = most or max(value for _, value in rows) or 1.0
    height = _TOP + _BAR * len(rows) + 8
    parts = [
        f'<svg role="img" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" font-size="13">',
        f"<title>{escape(title)}</title>",
        f'<text x="0" y="20" font-size="15">{escape(title)}</text>',
    ]
    for number, (label, value) in enumerate(rows):
        y = _TOP + number * _BAR
        width = max(1.0, value / longest * (_WIDTH - _LEFT - _RIGHT))
        parts += [
            f'<text x="{_LEFT - 8}" y="{y + 14}" text-anchor="end">{escape(label)}</text>',
            f'<rect x="{_LEFT}" y="{y + 2}" width="{width:.1f}" height="{_BAR - 6}" fill="#2563eb"/>',
            f'<text x="{_LEFT + width + 6:.1f}" y="{y + 14}">{value:,.{digits}f}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])
