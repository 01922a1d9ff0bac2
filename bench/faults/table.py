"""The table, as text, as Markdown, and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from bench.faults.trial import RECOVERY_SECONDS, Found
from bench.faults.watching import upper_bound

HEADS: Final = (
    "fault",
    "requests",
    "failed",
    "retried",
    "slowest s",
    "> 10 s",
    "lost",
    "stuck",
    "doubled",
    "leaked / probes",
    "recovery s",
    "last to recover",
    "unready",
)


def row(found: Found) -> list[str]:
    """Return one fault's cells."""
    failed = ", ".join(f"{what}: {count}" for what, count in sorted(found.failed.items())) or "0"
    recovery = "> 30" if math.isinf(found.recovery_s) else f"{found.recovery_s:.1f}"
    if found.start_s > 1:
        recovery += f" (+ {found.start_s:.1f} to start)"
    return [
        f"{found.part}: {found.name}",
        str(found.requests),
        failed,
        str(found.retried),
        f"{found.slowest_s:.1f} ({found.slowest})",
        str(found.over_budget),
        str(len(found.lost)),
        str(len(found.stuck)),
        str(len(found.doubled)),
        f"{len(found.leaked)} / {found.probes}",
        recovery,
        found.last,
        " ".join(found.unready) or "–",
    ]


def as_text(all_found: Sequence[Found]) -> str:
    """Return the table for a terminal."""
    rows = [list(HEADS), *map(row, all_found)]
    widths = [max(len(line[column]) for line in rows) for column in range(len(HEADS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in rows
    )


def as_markdown(all_found: Sequence[Found], head: str) -> str:
    """Return the table and what it leaves out, as a page."""
    lines = [
        head,
        "",
        _line(HEADS),
        _line(["---"] * len(HEADS)),
        *(_line(row(found)) for found in all_found),
        "",
    ]
    return "\n".join([*lines, *summary(all_found), *problems(all_found), ""])


def summary(all_found: Sequence[Found]) -> list[str]:
    """Return what all faults together come to."""
    probes = sum(found.probes for found in all_found)
    leaked = sum(len(found.leaked) for found in all_found)
    bound = f", upper 95 % bound {upper_bound(probes):.4%}" if not leaked else ""
    late = sum(found.recovery_s > RECOVERY_SECONDS for found in all_found)
    words = (
        f"{sum(found.requests for found in all_found)} requests; lost {sum(len(f.lost) for f in all_found)}, "
        f"stuck {sum(len(f.stuck) for f in all_found)}, "
        f"doubled {sum(len(f.doubled) for f in all_found)}, leaked {leaked} of {probes} probes{bound}; "
        f"{sum(found.over_budget for found in all_found)} answers took longer than 10 s; "
        f"{late} of {len(all_found)} faults took longer than {RECOVERY_SECONDS:g} s to recover from."
    )
    return [words, ""]


def problems(all_found: Sequence[Found]) -> list[str]:
    """Return what was lost, doubled, leaked or told wrongly, one line each."""
    return [
        f"- {found.part}: {found.name}: {kind}: {one}"
        for found in all_found
        for kind, several in (
            ("lost", found.lost),
            ("stuck", found.stuck),
            ("doubled", found.doubled),
            ("leaked", found.leaked),
            ("told wrongly", found.malformed),
            ("failed after everything had worked again", [f"{k} {v}" for k, v in found.late.items()]),
        )
        for one in several[:5]
    ]


def write(all_found: Sequence[Found], head: str, folder: Path) -> None:
    """Write `faults.md` and `faults.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "faults.md").write_text(as_markdown(all_found, head), encoding="utf-8")
    document = [
        asdict(found) | {"recovery_s": None if math.isinf(found.recovery_s) else found.recovery_s}
        for found in all_found
    ]
    (folder / "faults.json").write_text(
        json.dumps({"head": head, "faults": document}, indent=1), encoding="utf-8"
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
