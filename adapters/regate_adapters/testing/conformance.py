"""What the conformance suites say when a promise is broken. Not a suite itself."""

from __future__ import annotations


class ConformanceFailure(AssertionError):
    """The implementation does not keep the contract; the message says which promise and how."""


def expect(promise: str, *, expected: object, actual: object) -> None:
    """Raise `ConformanceFailure` unless the promise was kept."""
    if expected != actual:
        raise ConformanceFailure(f"{promise}: expected {expected!r}, got {actual!r}")
