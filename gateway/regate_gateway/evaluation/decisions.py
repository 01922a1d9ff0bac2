"""How long the gateway waited for decisions, between two scrapes of its metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import aiohttp

from regate_gateway.evaluation.figures import Decided
from regate_gateway.evaluation.member import Refused

_METRIC: Final = "regate_decision_seconds"
_MS: Final = 1000.0

Scrape = Mapping[tuple[str, str, str], float]
"""Numbers by name, `kind` and `le`."""


async def scrape(session: aiohttp.ClientSession, url: str) -> Scrape:
    """Return what `/metrics` of the gateway at this base URL counts now. Raises `Refused`."""
    place = f"{url.removesuffix('/v1')}/metrics"
    try:
        async with session.get(place, allow_redirects=False) as answer:
            status, text = answer.status, await answer.text()
    except (aiohttp.ClientError, TimeoutError, OSError, UnicodeDecodeError) as error:
        raise Refused(f"{place} does not answer ({type(error).__name__})") from error
    if status != 200 or _METRIC not in text:
        raise Refused(f"{place} does not show a gateway's metrics (status {status})", status=status)
    return _read(text)


def decided(before: Scrape, after: Scrape, *, searches: int) -> list[Decided]:
    """Return what was counted between the two."""
    found = []
    for kind in sorted({kind for name, kind, _ in after if name == f"{_METRIC}_count"}):
        count = _grown(before, after, f"{_METRIC}_count", kind)
        if count <= 0:
            continue
        buckets = sorted(
            (float(le), _grown(before, after, f"{_METRIC}_bucket", kind, le))
            for name, of_kind, le in after
            if name == f"{_METRIC}_bucket" and of_kind == kind
        )
        total = _grown(before, after, f"{_METRIC}_sum", kind)
        shares = [quantile(buckets, share) * _MS for share in (0.5, 0.95)]
        found.append(
            Decided(kind, int(count), count / searches if searches else 0.0, total / count * _MS, *shares)
        )
    return found


def quantile(buckets: list[tuple[float, float]], share: float) -> float:
    """Return a percentile of cumulative buckets, spread evenly within each, as Prometheus does it."""
    wanted = share * buckets[-1][1]
    low, below = 0.0, 0.0
    for bound, count in buckets:
        if count >= wanted:
            if bound == float("inf"):
                return low
            return low + (bound - low) * ((wanted - below) / (count - below) if count > below else 1.0)
        low, below = bound, count
    return low


def _grown(before: Scrape, after: Scrape, name: str, kind: str, le: str = "") -> float:
    return after.get((name, kind, le), 0.0) - before.get((name, kind, le), 0.0)


def _read(text: str) -> Scrape:
    from prometheus_client.parser import text_string_to_metric_families

    return {
        (sample.name, sample.labels.get("kind", ""), sample.labels.get("le", "")): sample.value
        for family in text_string_to_metric_families(text)
        if family.name == _METRIC
        for sample in family.samples
    }
