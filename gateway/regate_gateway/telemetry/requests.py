"""What is counted of requests, by the template of their route and never by the path that a client chose."""

from __future__ import annotations

from typing import Final

from regate_orchestrator.metrics import Metrics

_METHODS: Final = frozenset({"GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"})
_UNLISTED: Final = "unlisted"
NO_ANSWER: Final = 499
"""What stands for the status of a request to which nothing was answered."""
_BOUNDS: Final = (
    0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
)  # fmt: skip


def route_and_method(template: str | None, method: str) -> tuple[str, str]:
    """Return the route and the method as metrics and traces name them: from closed sets, whatever a client
    sends.
    """
    return template or _UNLISTED, method if method in _METHODS else "other"


class RequestMetrics:
    """Counts the requests that have ended."""

    def __init__(self, metrics: Metrics) -> None:
        self._requests = metrics.counter(
            "regate_requests", "Requests that have ended.", ("route", "method", "status")
        )
        self._durations = metrics.histogram(
            "regate_request_seconds",
            "Time until a request's answer was sent whole.",
            ("route", "method"),
            bounds=_BOUNDS,
        )

    def served(self, route: str | None, method: str, status: int, *, seconds: float) -> None:
        """Note a request that has ended. `route` is its template, None when no route was reached;
        `status` is 0 when nothing was answered.
        """
        name, verb = route_and_method(route, method)
        self._requests.add(name, verb, str(status or NO_ANSWER))
        self._durations.observe(seconds, name, verb)
