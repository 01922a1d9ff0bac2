"""Rows of responses and conversations, the items that they hold, and the logged events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, cast

from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.lineage import NOTHING_READ, Lineage, Source
from regate_orchestrator.values import ConversationId, Json, JsonObject, ResponseId

UNFINISHED: Final = ("queued", "in_progress")
"""The statuses of a response that is still being made."""
MAX_HISTORY_ITEMS: Final = 10_000
"""How many items a conversation, or a chain of responses, can have. All of them are decided again in
each turn.
"""


def too_many_items(*, param: str) -> InvalidRequest:
    """Return the refusal of what is, or would make, a conversation longer than any can be."""
    message = (
        f"With these items the conversation would have more than the {MAX_HISTORY_ITEMS} that one can have. "
        "Compact it with POST /v1/responses/compact and go on from the result, or begin a new one."
    )
    return InvalidRequest(message, param=param, code="conversation_too_long")


@dataclass(frozen=True, slots=True)
class StoredItem:
    """One item of a response or conversation, with the lineage of all that the model had read when it
    was made (empty for what the client sent).
    """

    id: str
    body: JsonObject
    direction: Literal["input", "output"]
    lineage: Lineage = NOTHING_READ
    results: tuple[JsonObject, ...] = ()
    """Of a `file_search_call`: what it found, text included, one mapping a chunk with `chunk_id`;
    leaves again only through the gate (I9).
    """


@dataclass(frozen=True, slots=True)
class ResponseRow:
    """A response: `body` is the Response object without its `output`, which is rebuilt from the
    output items.
    """

    id: ResponseId
    tenant: str
    owner: str
    created_at: int
    status: str
    previous_response_id: ResponseId | None
    model: str
    policy_revision: str
    body: JsonObject
    items: tuple[StoredItem, ...] = field(default=())
    conversation_id: ConversationId | None = None
    """The conversation that its items become part of when it ends well; it holds that conversation's
    lock until then.
    """
    background: bool = False

    def view(self) -> dict[str, Json]:
        """Return the row as `regate.history` sees it (`rego/schemas/item.json`)."""
        return _item_view(self, "response")


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event of a background response as its log keeps it, with the sources that the model had read
    since the event before.
    """

    event: JsonObject
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True)
class ConversationRow:
    """A conversation. Its items are kept beside it, in the order in which they were appended."""

    id: ConversationId
    tenant: str
    owner: str
    created_at: int
    metadata: Mapping[str, str]
    policy_revision: str

    def view(self) -> dict[str, Json]:
        """Return the row as `regate.history` sees it (`rego/schemas/item.json`)."""
        return _item_view(self, "conversation")


def _item_view(row: ResponseRow | ConversationRow, kind: str) -> dict[str, Json]:
    return {
        "id": row.id,
        "kind": kind,
        "tenant": row.tenant,
        "owner": row.owner,
        "labels": [],
        "created": row.created_at,
        "policy_revision": row.policy_revision,
    }


@dataclass(frozen=True, slots=True)
class ItemWithParent:
    """A stored item, with the policy view of the row that holds it (a response's or a conversation's
    `view()`).
    """

    holder: JsonObject
    item: StoredItem

    def view(self) -> dict[str, Json]:
        """Return the item as `regate.history` sees it: its holder's owner, and the labels of
        everything it was made from.
        """
        return {
            **self.holder,
            "id": self.item.id,
            "kind": cast("str", self.item.body["type"]),
            "labels": sorted(self.item.lineage.labels),
        }
