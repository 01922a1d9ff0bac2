"""Many mixed requests of many persons, and what of the gateway grows meanwhile: memory of the gateway and of
OPA, open files, threads, the database and the audit log. `make scale PARTS=soak`, or `SOAK=20000 make scale
PARTS=soak`.

Memory grows where the slope of its last half is more than what the points' own scatter explains, and more than
a mebibyte in ten thousand requests.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from bench.gateway import RunningGateway, running_backend, running_gateway
from bench.processes import descendant, resident_mib
from bench.scale.mixture import as_text, opened, play

_AT_ONCE: Final = 16
_SAMPLES: Final = 40
_SHOWN: Final = 8
_PER: Final = 10_000
_MOST_MIB: Final = 1.0
"""In so many requests (`_PER`), beyond which memory counts as growing."""
_ERRORS: Final = 3.0
"""Standard errors of the slope, beyond which it is not by chance."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What there was after so many requests."""

    requests: int
    gateway_mib: float
    opa_mib: float
    open_files: int
    threads: int
    database_mib: float
    audit_mib: float

    @classmethod
    def of(cls, gateway: RunningGateway, requests: int) -> Sample:
        """Return what there is now."""
        process = Path(f"/proc/{gateway.process.pid}")
        opa = descendant(gateway.process.pid, "opa")
        return cls(
            requests,
            gateway.resident_mib(),
            0.0 if opa is None else resident_mib(opa),
            len(list((process / "fd").iterdir())),
            len(list((process / "task").iterdir())),
            _mib(gateway.data_dir, "regate.db*"),
            _mib(gateway.data_dir / "audit", "**/*"),
        )

    def __str__(self) -> str:
        return (
            f"{self.requests:>10,}{self.gateway_mib:>10.1f}{self.opa_mib:>8.1f}{self.open_files:>7}"
            f"{self.threads:>9}{self.database_mib:>10.1f}{self.audit_mib:>8.1f}"
        )


@dataclass(frozen=True, slots=True)
class Slope:
    """How much more there is after ten thousand requests, and the standard error of that."""

    per: float
    error: float

    @classmethod
    def of(cls, points: list[tuple[float, float]]) -> Slope:
        """Return the slope of the line that is nearest to the points (least squares)."""
        count = len(points)
        middle, mean = sum(x for x, _ in points) / count, sum(y for _, y in points) / count
        spread = sum((x - middle) ** 2 for x, _ in points)
        slope = sum((x - middle) * (y - mean) for x, y in points) / spread
        rest = sum((y - mean - slope * (x - middle)) ** 2 for x, y in points)
        return cls(slope * _PER, math.sqrt(rest / max(1, count - 2) / spread) * _PER)

    @property
    def grows(self) -> bool:
        """Whether that is more than chance, and more than nothing."""
        return self.per > max(_MOST_MIB, _ERRORS * self.error)


async def soak(requests: int) -> None:
    """Play so many requests, and print what grew."""
    async with (
        running_backend("bench.backend") as backend,
        running_gateway(backend) as gateway,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        crowd = await opened(session, gateway)
        samples, began = [Sample.of(gateway, 0)], time.perf_counter()
        print(
            f"{'requests':>10}{'gateway':>10}{'OPA':>8}{'files':>7}{'threads':>9}{'database':>10}{'audit':>8}  MiB"
        )
        print(samples[0], flush=True)
        for number in range(1, _SAMPLES + 1):
            await play(crowd, requests * number // _SAMPLES, at_once=_AT_ONCE)
            samples.append(Sample.of(gateway, crowd.statuses.total()))
            if number % (_SAMPLES // _SHOWN) == 0:
                print(samples[-1], flush=True)
        seconds, last = time.perf_counter() - began, samples[-1]
        print(
            f"  {last.requests:,} requests in {seconds:.0f} s, {last.requests / seconds:.0f}/s: {as_text(crowd.statuses)}"
        )
        _judge(samples)


def _judge(samples: list[Sample]) -> None:
    half = samples[len(samples) // 2 :]
    for name, of in (("the gateway", "gateway_mib"), ("OPA", "opa_mib")):
        slope = Slope.of([(one.requests, getattr(one, of)) for one in half])
        verdict = "grows" if slope.grows else "does not grow"
        print(
            f"  memory of {name}: {slope.per:+.2f} ± {slope.error:.2f} MiB in {_PER:,} requests of the last half: {verdict}"
        )
    first, last = half[0], half[-1]
    asked = last.requests - first.requests
    stored = (last.database_mib - first.database_mib) * 2**20 / asked
    recorded = (last.audit_mib - first.audit_mib) * 2**20 / asked
    print(f"  a request leaves {stored:,.0f} bytes in the database and {recorded:,.0f} in the audit log")
    print(
        f"  open files {first.open_files} and {last.open_files}, threads {first.threads} and {last.threads}"
    )


def _mib(folder: Path, pattern: str) -> float:
    return sum(path.stat().st_size for path in folder.glob(pattern) if path.is_file()) / 2**20
