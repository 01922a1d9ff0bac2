"""Items in the state store, wherever they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import ItemWithParent


class ItemState(Protocol):
    """Finds items in responses and conversations."""

    async def with_parents(self, principal: Principal, ids: Sequence[str]) -> Mapping[str, ItemWithParent]:
        """Return those of the items that are stored, in a response or a conversation, each with the row that
        holds it.

        An item that several rows hold is taken from where it was first: from the oldest response, else from
        the oldest conversation.
        """
        ...
