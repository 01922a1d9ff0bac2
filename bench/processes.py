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
    """Return what a process and its living descendants used so far; nothing where there is none."""
    if pid is None:
        return Usage()
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(entry.name)] = int(fields[1])
    found: dict[str, float] = {}
    for one in parents:
        if one == pid or _descends(one, pid, parents):
            text = Path(f"/proc/{one}/stat").read_text(encoding="utf-8")
            fields = text.rpartition(")")[2].split()
            name = text.partition("(")[2].rpartition(")")[0]
            found[name] = found.get(name, 0.0) + (int(fields[11]) + int(fields[12])) / _TICKS
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return Usage(found, int(resident.split()[1]) / 1024)


def _descends(process: int, ancestor: int, parents: dict[int, int]) -> bool:
    while (process := parents.get(process, 0)) > 1:
        if process == ancestor:
            return True
    return False
