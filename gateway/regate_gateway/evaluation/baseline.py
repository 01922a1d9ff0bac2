"""What is worse than in an earlier report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import TypeAdapter, ValidationError

from regate_gateway.evaluation.figures import VERSION, Filtered, Latency, Quality, Report, Revoked
from regate_orchestrator.errors import ConfigurationError

_QUALITY: Final = ("recall_1", "recall_5", "recall_10", "mrr", "ndcg_10")


@dataclass(frozen=True, slots=True)
class _Compared:
    """The parts of an earlier report that are compared with."""

    quality: Sequence[Quality]
    filtered: Sequence[Filtered]
    revoked: Sequence[Revoked]
    latency: Sequence[Latency]


_COMPARED: Final = TypeAdapter(_Compared)


def read_baseline(path: Path) -> Mapping[str, Any]:
    """Return an earlier report. Raises `ConfigurationError`."""
    try:
        found = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {type(error).__name__}") from error
    if not isinstance(found, dict) or found.get("version") != VERSION:
        raise ConfigurationError(f"{path} is no report of this version ({VERSION}) of regate eval")
    try:
        _COMPARED.validate_python({part: found.get(part) for part in _Compared.__slots__})
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(map(str, fault["loc"]))
        raise ConfigurationError(f"{path} is no whole report: {place}: {fault['msg']}") from None
    return found


def regressions(
    report: Report, baseline: Mapping[str, Any], *, tolerance: float, slowdown: float | None
) -> list[str]:
    """Return in words what is worse: a figure of quality by more than the tolerance, a change that searches
    did not know of, hits outside a filter, and with `slowdown` searches that take that many times as long.
    """
    now = report.as_json()
    return [
        *_lower(now, baseline, "quality", ("tenant", "mode"), _QUALITY, tolerance),
        *_lower(now, baseline, "filtered", ("percent", "mode"), ("recall_10",), tolerance),
        *_higher(now, baseline, "filtered", ("percent", "mode"), "breaches"),
        *_higher(now, baseline, "revoked", ("change", "mode"), "late"),
        *([] if slowdown is None else _slower(now, baseline, slowdown)),
    ]


def _lower(
    now: Mapping[str, Any],
    then: Mapping[str, Any],
    part: str,
    keys: tuple[str, ...],
    figures: tuple[str, ...],
    tolerance: float,
) -> Iterator[str]:
    for label, old, new in _pairs(now, then, part, keys):
        if new is None:
            yield f"{part} of {label} is not measured any more"
            continue
        for figure in figures:
            if new[figure] < old[figure] - tolerance:
                yield f"{figure} of {label} is {new[figure]:.3f}, and was {old[figure]:.3f}"


def _higher(
    now: Mapping[str, Any], then: Mapping[str, Any], part: str, keys: tuple[str, ...], figure: str
) -> Iterator[str]:
    for label, old, new in _pairs(now, then, part, keys):
        if new is not None and new[figure] > old[figure]:
            yield f"{figure} of {label} are {new[figure]}, and were {old[figure]}"


def _slower(now: Mapping[str, Any], then: Mapping[str, Any], factor: float) -> Iterator[str]:
    for label, old, new in _pairs(now, then, "latency", ("mode",)):
        if new is not None and new["p95_ms"] > old["p95_ms"] * factor:
            yield f"p95 of searches in {label} is {new['p95_ms']:.1f} ms, and was {old['p95_ms']:.1f} ms"


def _pairs(
    now: Mapping[str, Any], then: Mapping[str, Any], part: str, keys: tuple[str, ...]
) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any] | None]]:
    """Yield a name for each entry of the baseline, with it and its counterpart."""
    present = {tuple(one[key] for key in keys): one for one in now[part]}
    for old in then[part]:
        place = tuple(old[key] for key in keys)
        label = ", ".join("all tenants" if value is None else str(value) for value in place)
        yield label, old, present.get(place)
