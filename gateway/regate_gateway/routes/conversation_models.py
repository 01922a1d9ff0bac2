"""What requests to `/v1/conversations` may hold."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from regate_gateway.http.models import Metadata, RequestModel
from regate_gateway.routes.responses.item_models import InputItem

_MAX_ITEMS = 20


class ConversationRequest(RequestModel):
    """A new conversation."""

    metadata: Metadata = Field(default_factory=dict)
    items: list[InputItem] = Field(
        default_factory=list, max_length=_MAX_ITEMS, description="Items to begin with."
    )


class ConversationUpdate(RequestModel):
    """Other metadata of a conversation, in place of all that it has."""

    nullable: ClassVar = frozenset({"metadata"})

    metadata: Metadata | None


class ItemsRequest(RequestModel):
    """Items that are added to a conversation."""

    items: list[InputItem] = Field(
        max_length=_MAX_ITEMS, description="The items.", json_schema_extra={"minItems": 1}
    )
