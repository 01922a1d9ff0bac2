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
    if pid is None or not (family := _family(pid)):
        return Usage()
    by_name: dict[str, float] = {}
    for name, seconds in family.values():
        by_name[name] = by_name.get(name, 0.0) + seconds
    return Usage(by_name, resident_mib(pid))


def descendant(pid: int, name: str) -> int | None:
    """Return a living process of this program that descends from another."""
    return next((one for one, (found, _) in _family(pid).items() if found == name), None)


def resident_mib(pid: int) -> float:
    """Return the resident memory of one process, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def _family(pid: int) -> dict[int, tuple[str, float]]:
    """Return the names and the seconds of processor time of a process and its living descendants."""
    found: dict[int, tuple[str, int, float]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            name, _, rest = (entry / "stat").read_text(encoding="utf-8").partition("(")[2].rpartition(")")
        except OSError:
            continue
        fields = rest.split()
        found[int(entry.name)] = name, int(fields[1]), (int(fields[11]) + int(fields[12])) / _TICKS
    parents = {child: parent for child, (_, parent, _) in found.items()}
    return {one: (name, seconds) for one, (name, _, seconds) in found.items() if _descends(one, pid, parents)}


def _descends(process: int, ancestor: int, parents: dict[int, int]) -> bool:
    while process in parents:
        if process == ancestor:
            return True
        process = parents[process]
    return False
