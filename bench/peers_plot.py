"""The plot of `peers.py`: processor time of a request, by peer and kind, as a self-contained SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Protocol
from xml.sax.saxutils import escape

_WIDTH: Final = 860
_LEFT: Final = 250
_BAR: Final = 22


class Measured(Protocol):
    """What is drawn of a row."""

    peer: str
    kind: str
    cpu_us: float | None


def plot(rows: Sequence[Measured]) -> str:
    """Return the rows that have a processor time as bars on a logarithmic scale, each with its figure."""
    shown = [(row, row.cpu_us) for row in rows if row.cpu_us]
    most = math.log10(max([cost for _, cost in shown], default=10.0))
    height = 50 + _BAR * len(shown)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
            'font-family="sans-serif" font-size="13">'
        ),
        '<rect width="100%" height="100%" fill="white"/>',
        '<text x="10" y="24" font-size="15">Processor time of a request, µs (logarithmic)</text>',
    ]
    for number, (row, cost) in enumerate(shown):
        y = 40 + number * _BAR
        width = max(2.0, math.log10(max(cost, 1.0)) / most * (_WIDTH - _LEFT - 90))
        fill = "#2563eb" if row.peer == "Regate" else "#9ca3af"
        label = escape(f"{row.peer}: {row.kind}")
        parts += [
            f'<text x="{_LEFT - 8}" y="{y + 15}" text-anchor="end">{label}</text>',
            f'<rect x="{_LEFT}" y="{y + 3}" width="{width:.0f}" height="{_BAR - 6}" fill="{fill}"/>',
            f'<text x="{_LEFT + width + 6:.0f}" y="{y + 15}">{cost:,.0f}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])
