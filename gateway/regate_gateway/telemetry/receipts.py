"""The receipt of an answer: which record was the last that was written for its request.

Whatever runs for a request finds the request's own place by its context, which a task takes over from the
task that began it; so nothing has to be passed through what decides. A receipt holds the time of the record
and the digest of its line, and not its number: that would tell everybody how much others ask. A trace, which
goes to the operator, has both.
"""

from __future__ import annotations

from contextvars import ContextVar


class LatestRecord:
    """The latest record of one request; `receipt` is empty while there is none."""

    __slots__ = ("receipt", "seq")

    def __init__(self) -> None:
        self.seq = 0
        self.receipt = ""

    def note(self, seq: int, receipt: str) -> None:
        """Take a record in. Those that were written at the same time may come in any order."""
        if seq > self.seq:
            self.seq, self.receipt = seq, receipt


_latest: ContextVar[LatestRecord | None] = ContextVar("regate_latest_record", default=None)


def begin_request() -> LatestRecord:
    """Return the place for the records of a request that begins in this context."""
    latest = LatestRecord()
    _latest.set(latest)
    return latest


def note_record(seq: int, receipt: str) -> None:
    """Take a record in that was written in this context, for the request that it belongs to, if any."""
    if (latest := _latest.get()) is not None:
        latest.note(seq, receipt)
