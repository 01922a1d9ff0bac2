"""A page of a list: what is asked for, and what is answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from regate_orchestrator.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is wanted. `after` and `before` are ids; order is by creation time, then id."""

    limit: int = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None
    before: str | None = None

    @property
    def cursors(self) -> dict[str, str]:
        """Return the ids of the rows between which the page lies, by their parameters."""
        return {
            name: cursor
            for name, cursor in (("after", self.after), ("before", self.before))
            if cursor is not None
        }

    @property
    def is_backwards(self) -> bool:
        """Return whether the page ends at a row: it holds the rows nearest before that one, in the
        list's order all the same.
        """
        return self.before is not None and self.after is None


def no_such_cursor(param: str) -> InvalidRequest:
    """Return the one error for a cursor that is no row of the list: absent, in another list, and not
    to be seen by the caller alike (I7).
    """
    return InvalidRequest(f"'{param}' must be the id of an object in this list.", param=param)


Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Rows(Generic[Row]):
    """A page of rows that a plan permits, and whether more follow. `cursors` are the rows that the
    page's `after` and `before` name, by these.
    """

    rows: tuple[Row, ...]
    has_more: bool
    cursors: Mapping[str, Row] = field(default_factory=dict)
