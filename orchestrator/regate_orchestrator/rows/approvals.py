"""Rows of what callers are asked to approve."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ApprovalRow:
    """A call that its caller is asked to approve, by what it is bound to."""

    id: str
    tool: str
    """The name by which policies know the tool."""
    digest: str
    """The digest of the arguments as they were shown."""
    expires_at: int
    response_id: str = ""
    used_at: int | None = None
