"""`/v1/vector_stores/{id}/files`: the files in a store. What is decided about them, and when, is the
core's (`documents/attachments.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final, cast

from starlette.responses import Response

from regate_gateway.http.connection import reply
from regate_gateway.routes.authorized_fetch import fetch_store
from regate_gateway.routes.call import Call
from regate_gateway.routes.serializers import attachment_object, list_object
from regate_gateway.routes.vector_stores.models import (
    AttachmentsQuery,
    AttachRequest,
    AttributesUpdate,
    ContentQuery,
)
from regate_gateway.routes.vector_stores.wanted import wanted_file
from regate_orchestrator.authz.batches import CHUNKS, Batch
from regate_orchestrator.authz.decisions import Allow, Point, Question
from regate_orchestrator.authz.lists import Listed
from regate_orchestrator.documents.attributes import split_attributes
from regate_orchestrator.documents.generations import chunk_id
from regate_orchestrator.errors import InvalidRequest, NotFound, NotPermitted, VectorStoreUnavailable
from regate_orchestrator.filters.expression import Scalar
from regate_orchestrator.retrieval.stores import expired
from regate_orchestrator.rows import Attachment, StoreRow
from regate_orchestrator.values import FileId

_TRIES: Final = 3


async def attach(call: Call) -> Response:
    """Answer `POST /v1/vector_stores/{id}/files`: the ingest decision is made now, the text is read in
    the background.
    """
    services, context = call.services, call.context
    wanted = wanted_file(await call.body(AttachRequest))
    store = await fetch_usable_store(call, "store.add")
    (attachment,) = await services.attachments.decide(
        context, store, services.retrieval.view(store), [wanted]
    )
    await services.attachments.put(context, [attachment])
    return reply(attachment_object(attachment))


async def listing(call: Call) -> Response:
    """Answer `GET /v1/vector_stores/{id}/files`: those whose chunks the caller may see."""
    services, context = call.services, call.context
    asked = call.query(AttachmentsQuery)
    store = await fetch_store(services, context, call.path("store_id"), "store.read")
    reading = partial(
        services.state.attachments.page, context.principal, store.id, status=asked.filter or None
    )
    page = await services.listings.page(context, attachments_of(call, store), asked.page, reading)
    return reply(list_object([attachment_object(row) for row in page.rows], has_more=page.has_more))


async def retrieve(call: Call) -> Response:
    """Answer `GET /v1/vector_stores/{id}/files/{file_id}`, which clients poll."""
    _, attachment = await _fetch_attachment(call)
    return reply(attachment_object(attachment))


async def update(call: Call) -> Response:
    """Answer `POST /v1/vector_stores/{id}/files/{file_id}`: other attributes in place of all there
    were, decided and stamped anew.
    """
    services = call.services
    asked = await call.body(AttributesUpdate)
    sent = cast("Mapping[str, Scalar]", asked.attributes or {})
    attributes = split_attributes(sent, param="attributes")
    store, present = await _fetch_attachment(call)
    if store.has_expired(services.clock()):
        raise expired(store.id)
    services.models.require([store])
    view = services.retrieval.view(store)
    return reply(
        attachment_object(
            await services.attachments.amend(call.context, view, present, sent=sent, attributes=attributes)
        )
    )


async def content(call: Call) -> Response:
    """Answer `GET /v1/vector_stores/{id}/files/{file_id}/content`: the text as it was split, whole or,
    with `limit`, in pages.
    """
    asked = call.query(ContentQuery)
    for _ in range(_TRIES):
        store, attachment = await _fetch_attachment(call)
        first = _page_start(asked.page, attachment)
        count = attachment.chunks if attachment.status == "completed" else 0
        last = count if asked.limit is None else min(first + asked.limit, count)
        ids = [chunk_id(attachment.generation, index) for index in range(first, last)]
        tenant = call.context.principal.tenant
        texts = await call.services.vectors.texts(store.id, ids, tenant=tenant) if ids else {}
        if len(texts) == len(ids):
            data = [{"type": "text", "text": texts[identifier]} for identifier in ids]
            following = _page_token(attachment, last) if last < count else None
            page = {
                "object": "vector_store.file_content.page",
                "data": data,
                "has_more": last < count,
                "next_page": following,
            }
            return reply(page)
    raise VectorStoreUnavailable(f"chunks of file {attachment.file_id} in store {store.id} are missing")


async def detach(call: Call) -> Response:
    """Answer `DELETE /v1/vector_stores/{id}/files/{file_id}`. No search finds its chunks from the
    moment this is acknowledged.
    """
    services, context = call.services, call.context
    store, attachment = await _fetch_attachment(call)
    resource = {"store": services.retrieval.view(store), "attachment": attachment.stamp}
    decision = await services.enforcer.decide(
        context, Question(Point.STORE, "store.detach", resource, about=attachment.file_id)
    )
    if not isinstance(decision, Allow):
        raise NotPermitted(
            "The policy does not permit removing this file: only its owner or the store's may."
        )
    removed = await services.state.attachments.delete(context.principal, store.id, attachment.file_id)
    if removed is None:
        raise NotFound.of("vector store file", attachment.file_id)
    if removed.status == "completed":  # what a worker is writing is removed when it has stopped
        await services.forget_generation(store.id, removed.file_id, removed.generation)
    return reply({"id": attachment.file_id, "object": "vector_store.file.deleted", "deleted": True})


async def fetch_usable_store(call: Call, action: str) -> StoreRow:
    """Return the store of the path, decided for the action; raises `InvalidRequest` when it has expired."""
    store = await fetch_store(call.services, call.context, call.path("store_id"), action)
    if store.has_expired(call.services.clock()):
        raise expired(store.id)
    return store


def attachments_of(call: Call, store: StoreRow) -> Listed[Attachment]:
    """Return the store's files as a list; the chunk rule decides on their stamps."""
    return Listed(
        CHUNKS,
        name=lambda row: row.file_id,
        view=lambda row: row.stamp,
        store=call.services.retrieval.view(store),
    )


async def _fetch_attachment(call: Call) -> tuple[StoreRow, Attachment]:
    """Return the store and the attachment, looked up by the pair; the chunk rule decides on its stamp."""
    services, context = call.services, call.context
    store = await fetch_store(services, context, call.path("store_id"), "store.read")
    file = FileId(call.path("file_id"))
    attachment = await services.state.attachments.get(context.principal, store.id, file)
    stamp = {} if attachment is None else attachment.stamp
    batch = Batch(stores={store.id: services.retrieval.view(store)}, chunks=[(store.id, stamp)])
    admitted = await services.enforcer.admit(context, "chunk.read", batch)
    if attachment is None or 0 not in admitted.chunks:
        raise NotFound.of("vector store file", file)
    return store, attachment


def _page_token(attachment: Attachment, first: int) -> str:
    """Return what names the page that begins with this chunk, of the present chunks alone."""
    return f"{attachment.generation.rpartition('/')[2]}.{first}"


def _page_start(token: str | None, attachment: Attachment) -> int:
    if token is None:
        return 0
    first = token.rpartition(".")[2]
    if not (first.isascii() and first.isdigit() and len(first) < 10) or token != _page_token(
        attachment, int(first)
    ):
        raise InvalidRequest(
            "'page' must be a 'next_page' of the file as it is now.", param="page", code="invalid_value"
        )
    return int(first)
