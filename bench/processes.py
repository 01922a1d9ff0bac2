"""The processor time and the memory of a process with all that it started. Not a benchmark of its own."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """Seconds of processor time by the program's name, and resident memory of the process itself."""

    by_name: dict[str, float] = field(default_factory=dict)
    resident_mib: float = 0.0

    @property
    def seconds(self) -> float:
        """Return the time of all together."""
        return sum(self.by_name.values())

    def since(self, before: Usage) -> Usage:
        """Return what was used after that moment."""
        return Usage(
            {name: of - before.by_name.get(name, 0.0) for name, of in self.by_name.items()}, self.resident_mib
        )


def usage_of(pid: int | None) -> Usage:
    """Return what a process and its living descendants used so far; nothing where there is none, or where the
    system does not say.
    """
    found: dict[int, tuple[str, int, float]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            name, _, rest = (entry / "stat").read_text(encoding="utf-8").partition("(")[2].rpartition(")")
        except OSError:
            continue
        fields = rest.split()
        found[int(entry.name)] = name, int(fields[1]), (int(fields[11]) + int(fields[12])) / _TICKS
    if pid is None or pid not in found:
        return Usage()
    by_name: dict[str, float] = {}
    parents = {child: parent for child, (_, parent, _) in found.items()}
    for one, (name, _, seconds) in found.items():
        if _descends(one, pid, parents):
            by_name[name] = by_name.get(name, 0.0) + seconds
    return Usage(by_name, resident_mib(pid))


def resident_mib(pid: int) -> float:
    """Return the resident memory of one process, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def _descends(process: int, ancestor: int, parents: dict[int, int]) -> bool:
    while process in parents:
        if process == ancestor:
            return True
        process = parents[process]
    return False
