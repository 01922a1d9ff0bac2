"""Whether a client is still there: told by its connection (`bounded_http.py`), so nobody need wait for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from starlette.types import Scope

_KEY: Final = "presence"


class Presence:
    """The client of one connection. `is_over` once it has left, or was cut."""

    __slots__ = ("_leaving", "is_over")

    def __init__(self) -> None:
        self._leaving: list[Callable[[], object]] = []
        self.is_over = False

    @contextmanager
    def watched(self, leaves: Callable[[], object]) -> Iterator[None]:
        """Have this called when the client leaves while the block runs; at once, if it has left before."""
        if self.is_over:
            leaves()
        self._leaving.append(leaves)
        try:
            yield
        finally:
            self._leaving.remove(leaves)

    def end(self) -> None:
        """Tell that the client has left."""
        self.is_over = True
        for leaves in list(self._leaving):
            leaves()


def tell(scope: Scope, presence: Presence) -> None:
    """Have requests of this scope know of their client."""
    scope["state"][_KEY] = presence


def presence_of(scope: Scope) -> Presence:
    """Return the client of a request."""
    found = scope["state"][_KEY]
    assert isinstance(found, Presence)  # noqa: S101 — INVARIANT: `BoundedHttp` makes every scope
    return found
