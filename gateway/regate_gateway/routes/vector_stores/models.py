"""What requests to `/v1/vector_stores` may hold."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from regate_gateway.http.models import RequestModel
from regate_gateway.routes.models import ListQuery


class AttachmentsQuery(ListQuery):
    """Which files of a store, or of a batch, are listed."""

    filter: Literal["in_progress", "completed", "failed", "cancelled", ""] = Field(
        "", description="Only files whose ingestion is as far as that."
    )


class ContentQuery(RequestModel):
    """Which part of a file's text is wanted."""

    limit: int | None = Field(
        None, ge=1, le=1_000, description="Pieces on a page. Without it, all are on one."
    )
    page: str | None = Field(None, max_length=200, description="The `next_page` of the page before.")
