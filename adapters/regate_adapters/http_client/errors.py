"""What an exchange fails by. What it means is said by whoever asked."""

from __future__ import annotations


class HttpFailure(Exception):
    """An exchange that did not come to its end."""


class NotConnected(HttpFailure):
    """No connection came about, so certainly nothing was sent. `refused`: nobody listens there."""

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


class NotConnectedInTime(NotConnected, TimeoutError):
    """No connection came about in time."""


class AllInUse(NotConnectedInTime):
    """None of the pool's own connections came free in time: of the other side that says nothing."""


class BrokenOff(HttpFailure):
    """The connection ended before the answer did. `unanswered`: before its first byte."""

    def __init__(self, message: str, *, unanswered: bool = False) -> None:
        super().__init__(message)
        self.unanswered = unanswered


class NotHttp(HttpFailure):
    """What came is no answer of HTTP/1.1, or its head is too large."""


class Silent(HttpFailure, TimeoutError):
    """The other side sent nothing for too long."""
