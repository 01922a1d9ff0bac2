"""The windows of budgets: the days and months of the calendar, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from regate_orchestrator.ports import Window

_DAY_SECONDS: Final = 86_400
_MONTHS: Final = 12


def number_of(window: Window, epoch: float) -> int:
    """Return the number of the day or month, counted without a gap."""
    if window == "day":
        return int(epoch // _DAY_SECONDS)
    then = datetime.fromtimestamp(epoch, UTC)
    return then.year * _MONTHS + then.month - 1


def end_of(window: Window, number: int) -> float:
    """Return when the day or month of this number ends, in epoch seconds."""
    return start_of(window, number + 1)


def start_of(window: Window, number: int) -> float:
    """Return when the day or month of this number begins, in epoch seconds."""
    if window == "day":
        return float(number * _DAY_SECONDS)
    return datetime(number // _MONTHS, number % _MONTHS + 1, 1, tzinfo=UTC).timestamp()
