"""What the machine was doing while something was measured: figures mean little without it. Not a
benchmark of its own.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.processes import usage_of

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Noise:
    """How many cores' worth of time processes other than ours used. Known once the measurement has
    ended; None where it cannot be told.
    """

    others: float | None = None

    def __str__(self) -> str:
        if self.others is None:
            return "noise: not known on this system"
        return f"noise: other processes used {self.others:.2f} of {os.cpu_count()} cores meanwhile"


def describe() -> str:
    """Return the machine in a few words."""
    return (
        f"{os.cpu_count()} cores ({_model()}), Python {platform.python_version()}, load "
        f"{os.getloadavg()[0]:.1f} at the start"
    )


@contextmanager
def watched() -> Iterator[Noise]:
    """Yield what will say how busy others were while the block ran. Ours are this process and all that
    descend from it, if they still run.
    """
    noise = Noise()
    busy, own, began = _busy_s(), _own_s(), time.perf_counter()
    yield noise
    if busy is not None and own is not None:
        passed, all_used, ours = time.perf_counter() - began, (_busy_s() or 0) - busy, (_own_s() or 0) - own
        noise.others = max(0.0, (all_used - ours) / passed)


def _busy_s() -> float | None:
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    except OSError:
        return None
    user, nice, system, idle, waiting, *others = (int(number) for number in first.split()[1:9])
    del idle, waiting
    return (user + nice + system + sum(others)) / _TICKS


def _own_s() -> float | None:
    """Return the processor time of this process and its living descendants."""
    return usage_of(os.getpid()).seconds or None


def _model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )
