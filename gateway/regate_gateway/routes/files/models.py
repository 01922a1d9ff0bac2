"""What requests to `/v1/files` and `/v1/uploads` may hold."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from regate_gateway.routes.models import ListQuery

Purpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]


class FilesQuery(ListQuery):
    """Which files are listed."""

    limit: int = Field(10_000, ge=1, le=10_000, description="How many there are on a page.")
    purpose: Purpose | Literal[""] = Field("", description="Only files for this purpose.")
