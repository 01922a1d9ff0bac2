"""Conversations in the state store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import ConversationRow, Page, Rows, StoredItem
from regate_orchestrator.values import ConversationId, ResponseId


class ConversationState(Protocol):
    """Keeps conversations with their items."""

    async def add(self, row: ConversationRow, items: Sequence[StoredItem]) -> None:
        """Store a new conversation with its first items."""
        ...

    async def get(self, principal: Principal, conversation: ConversationId) -> ConversationRow | None:
        """Return the conversation's row."""
        ...

    async def update(
        self, principal: Principal, conversation: ConversationId, *, metadata: Mapping[str, str]
    ) -> bool:
        """Replace the conversation's metadata; return False when it is absent or invisible."""
        ...

    async def delete(self, principal: Principal, conversation: ConversationId) -> bool:
        """Delete the conversation and its items. Responses that were made in it stay. Raises
        `InvalidRequest` while it is locked.
        """
        ...

    async def items(self, principal: Principal, conversation: ConversationId) -> list[StoredItem] | None:
        """Return all items of the conversation, oldest first; None when it is absent or invisible."""
        ...

    async def item_page(
        self, principal: Principal, conversation: ConversationId, page: Page
    ) -> Rows[StoredItem] | None:
        """Return a page of the conversation's items in their order, item ids being the cursors; None when it
        is absent or invisible.

        Raises `InvalidRequest` for a cursor that is no item of it.
        """
        ...

    async def item(self, principal: Principal, conversation: ConversationId, item: str) -> StoredItem | None:
        """Return one item of the conversation."""
        ...

    async def append(
        self, principal: Principal, conversation: ConversationId, items: Sequence[StoredItem]
    ) -> bool:
        """Append the items; return False when the conversation is absent or invisible. Raises
        `InvalidRequest` while it is locked.
        """
        ...

    async def delete_item(self, principal: Principal, conversation: ConversationId, item: str) -> bool:
        """Delete one item of the conversation. Raises `InvalidRequest` while the conversation is locked."""
        ...

    async def lock(
        self, principal: Principal, conversation: ConversationId, holder: ResponseId
    ) -> list[StoredItem] | None:
        """Take the conversation's lock for a response and return all its items, in one step; None when it is
        absent or invisible.

        While another response holds it, `InvalidRequest` must be raised. Whoever took it must save the
        response in a final status, or unlock.
        """
        ...

    async def unlock(self, principal: Principal, conversation: ConversationId, holder: ResponseId) -> None:
        """Release the lock if this response holds it. Must be idempotent."""
        ...
