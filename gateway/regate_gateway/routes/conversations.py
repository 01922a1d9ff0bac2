"""`/v1/conversations`: conversations and the items in them. Responses add their turns by themselves
(`regate_orchestrator.responses.driver`).

A conversation belongs to who made it, subject and tenant; making one is decided as the row it would be
(`conversation.create`). Items leave through the gate, as those of responses do: what rests on something no
longer permitted is withheld (I9).
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.responses import Response

from regate_gateway.http.connection import reply
from regate_gateway.routes.authorized_fetch import fetch_conversation, no_conversation
from regate_gateway.routes.call import Call
from regate_gateway.routes.conversation_models import ConversationRequest, ConversationUpdate, ItemsRequest
from regate_gateway.routes.responses.include import IncludeQuery, ItemsQuery
from regate_gateway.routes.responses.input_items import taken_over
from regate_gateway.routes.responses.redaction import redacted_items
from regate_gateway.routes.serializers import conversation_object, list_object
from regate_orchestrator.authz.decisions import Deny, Point, Question
from regate_orchestrator.errors import NotFound, NotPermitted
from regate_orchestrator.quota.storage import stored_size
from regate_orchestrator.responses.context.history import history_of
from regate_orchestrator.rows import ConversationRow, ItemWithParent, StoredItem
from regate_orchestrator.values import ConversationId, JsonObject, mint


async def create(call: Call) -> Response:
    """Answer `POST /v1/conversations`."""
    services, context = call.services, call.context
    asked = await call.body(ConversationRequest)
    items = taken_over(asked.items)
    identifier, now = ConversationId(mint("conv_")), int(services.clock())
    wanted = ConversationRow(
        identifier, context.principal.tenant, context.principal.id, now, asked.metadata, ""
    )
    question = Question(Point.HISTORY, "conversation.create", {"item": wanted.view()}, about=identifier)
    kept, (decision,) = await services.conversation_writer.admit(
        context, "conversation.create", items, questions=[question], notes=_notes(identifier, items)
    )
    if isinstance(decision, Deny):
        raise NotPermitted(
            "The policy does not permit this conversation: "
            + ("; ".join(decision.reasons) or "no reason given")
            + "."
        )
    row = ConversationRow(identifier, wanted.tenant, wanted.owner, now, wanted.metadata, decision.revision)
    async with call.room("/v1/conversations", _size(kept)):
        await services.state.conversations.add(row, kept)
    return reply(conversation_object(row))


async def retrieve(call: Call) -> Response:
    """Answer `GET /v1/conversations/{id}`."""
    return reply(conversation_object(await _reach(call, "conversation.read")))


async def update(call: Call) -> Response:
    """Answer `POST /v1/conversations/{id}`: the metadata are replaced whole."""
    metadata = (await call.body(ConversationUpdate)).metadata or {}
    row = await _reach(call, "conversation.update")
    if not await call.services.state.conversations.update(call.context.principal, row.id, metadata=metadata):
        raise no_conversation(row.id)
    return reply({**conversation_object(row), "metadata": metadata})


async def delete(call: Call) -> Response:
    """Answer `DELETE /v1/conversations/{id}`. The responses that were made in it stay."""
    row = await _reach(call, "conversation.delete")
    if not await call.services.state.conversations.delete(call.context.principal, row.id):
        raise no_conversation(row.id)
    return reply({"id": row.id, "object": "conversation.deleted", "deleted": True})


# ---------------------------------------------------------------- items


async def append_items(call: Call) -> Response:
    """Answer `POST /v1/conversations/{id}/items`, for everything at once or nothing."""
    items = taken_over((await call.body(ItemsRequest)).items)
    include = call.query(IncludeQuery).include  # before anything is appended
    row = await _reach(call, "conversation.update")
    kept, _ = await call.services.conversation_writer.admit(
        call.context, "conversation.items", items, notes=_notes(row.id, items)
    )
    async with call.room("/v1/conversations/{conversation_id}/items", _size(kept)):
        if not await call.services.state.conversations.append(call.context.principal, row.id, kept):
            raise no_conversation(row.id)
    return reply(list_object(await _shown(call, row, kept, include), has_more=False))


async def list_items(call: Call) -> Response:
    """Answer `GET /v1/conversations/{id}/items`."""
    asked = call.query(ItemsQuery)
    row = await _reach(call, "conversation.read")
    items = await call.services.state.conversations.item_page(call.context.principal, row.id, asked.page)
    if items is None:
        raise no_conversation(row.id)
    return reply(list_object(await _shown(call, row, items.rows, asked.include), has_more=items.has_more))


async def retrieve_item(call: Call) -> Response:
    """Answer `GET /v1/conversations/{id}/items/{item}`."""
    include = call.query(IncludeQuery).include
    row = await _reach(call, "conversation.read")
    item = await call.services.state.conversations.item(call.context.principal, row.id, call.path("item_id"))
    if item is None:
        raise _no_item(call)
    return reply((await _shown(call, row, [item], include))[0])


async def delete_item(call: Call) -> Response:
    """Answer `DELETE /v1/conversations/{id}/items/{item}` with the conversation."""
    row = await _reach(call, "conversation.update")
    if not await call.services.state.conversations.delete_item(
        call.context.principal, row.id, call.path("item_id")
    ):
        raise _no_item(call)
    return reply(conversation_object(row))


async def _reach(call: Call, action: str) -> ConversationRow:
    return await fetch_conversation(call.services, call.context, call.path("conversation_id"), action)


async def _shown(
    call: Call, row: ConversationRow, items: Sequence[StoredItem], include: Sequence[str]
) -> list[JsonObject]:
    """Return the items as the caller may see them now."""
    history = history_of(ItemWithParent(row.view(), item) for item in items)
    passed = await call.services.loop.gate.readmit(call.context, history, phase="conversation.read")
    return redacted_items(passed.left, include, direction=None)


def _size(items: Sequence[StoredItem]) -> int:
    return stored_size([item.body for item in items])


def _notes(conversation: ConversationId, items: Sequence[JsonObject]) -> JsonObject:
    """Return what the audit record says of items that come in: which they are, never what is in them."""
    return {"conversation": conversation, "items": [item["id"] for item in items]}


def _no_item(call: Call) -> NotFound:
    message = (
        f"Item with id '{call.path('item_id')}' not found in conversation '{call.path('conversation_id')}'."
    )
    return NotFound(message, code="not_found")
