"""The queries of lists, which every resource that is listed takes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from regate_gateway.http.models import RequestModel
from regate_orchestrator.rows import Page


class ListQuery(RequestModel):
    """Which part of a list is asked for."""

    limit: int = Field(20, ge=1, le=100, description="How many there are on a page.")
    order: Literal["asc", "desc"] = Field("desc", description="By the time when they were made.")
    after: str | None = Field(None, max_length=256, description="The id after which the page begins.")
    before: str | None = Field(None, max_length=256, description="The id before which the page ends.")

    @property
    def page(self) -> Page:
        """Return the part as stores know it."""
        return Page(self.limit, self.order, self.after, self.before)
