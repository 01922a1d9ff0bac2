"""The objects in chat completions that are closed: no upstream is said to take anything beside what is known.

All others may hold members that an upstream takes, and are read field by field (`fields.py`).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from regate_gateway.http.models import RequestModel
from regate_gateway.routes.responses.part_models import Detail, ImageAddress


class ImageUrl(RequestModel):
    """An image in a message."""

    url: ImageAddress = Field(description="A data URL; an address only where an upstream may fetch it.")
    detail: Detail = Field("auto", description="How closely it is looked at.")


class CacheBreakpoint(RequestModel):
    """Where a cache may cut. A hint about the upstream's, which is not sent on."""

    mode: Literal["explicit"] = Field(description="There is no other.")
    ttl: Literal["30m", "12h"] = Field("30m", description="How long what is cached stays.")
