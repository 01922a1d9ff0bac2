"""`/v1/vector_stores/{id}/file_batches`: many files at once. A batch belongs to the tenant that sent
it; its files are files in the store.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from starlette.responses import Response

from regate_gateway.http.connection import reply
from regate_gateway.routes.authorized_fetch import fetch_store
from regate_gateway.routes.call import Call
from regate_gateway.routes.serializers import attachment_object, batch_object, list_object
from regate_gateway.routes.vector_stores.files import attachments_of, fetch_usable_store
from regate_gateway.routes.vector_stores.models import AttachmentsQuery, FileBatchRequest
from regate_gateway.routes.vector_stores.wanted import wanted_files
from regate_orchestrator.authz.decisions import Deny, Point, Question
from regate_orchestrator.errors import NotFound, NotPermitted
from regate_orchestrator.rows import FileBatch, StoreRow, Totals
from regate_orchestrator.values import BatchId, mint

_DECIDED_AT_ONCE: Final = 50


async def create(call: Call) -> Response:
    """Answer `POST /v1/vector_stores/{id}/file_batches`: all files are attached, or none where one is
    absent or refused.
    """
    services, context = call.services, call.context
    wanted = wanted_files(await call.body(FileBatchRequest))
    store = await fetch_usable_store(call, "store.add")
    rows = await services.attachments.decide(context, store, services.retrieval.view(store), wanted)
    principal = context.principal
    batch = FileBatch(BatchId(mint("vsfb_")), store.id, int(services.clock()), principal.tenant, principal.id)
    await services.attachments.put(context, rows, batch=batch)
    return reply(batch_object(batch, Totals(in_progress=len(rows))))


async def retrieve(call: Call) -> Response:
    """Answer `GET /v1/vector_stores/{id}/file_batches/{batch_id}`, which clients poll."""
    _, batch = await _fetch_batch(call)
    return reply(batch_object(batch, await call.services.state.file_batches.totals(batch)))


async def cancel(call: Call) -> Response:
    """Answer `POST /v1/vector_stores/{id}/file_batches/{batch_id}/cancel`. What is completed stays;
    what is not can be found never.
    """
    services, context = call.services, call.context
    store, batch = await _fetch_batch(call)
    view = services.retrieval.view(store)
    stamps = await services.state.file_batches.stamps(batch)
    for start in range(0, len(stamps), _DECIDED_AT_ONCE):
        part = stamps[start : start + _DECIDED_AT_ONCE]
        questions = [
            Question(Point.STORE, "store.detach", {"store": view, "attachment": stamp}, about=batch.id)
            for stamp in part
        ]
        decisions, _ = await services.enforcer.decide_all(context, "store.detach", questions)
        if any(isinstance(decision, Deny) for decision in decisions):
            raise NotPermitted(
                "The policy does not permit cancelling this batch: only its owner or the store's may."
            )
    await services.state.file_batches.cancel(batch)
    return reply(batch_object(batch, await services.state.file_batches.totals(batch)))


async def list_files(call: Call) -> Response:
    """Answer `GET /v1/vector_stores/{id}/file_batches/{batch_id}/files`: those whose chunks the caller
    may see.
    """
    services, context = call.services, call.context
    asked = call.query(AttachmentsQuery)
    store, batch = await _fetch_batch(call)
    reading = partial(
        services.state.attachments.page,
        context.principal,
        store.id,
        status=asked.filter or None,
        batch=batch.id,
    )
    page = await services.listings.page(context, attachments_of(call, store), asked.page, reading)
    return reply(list_object([attachment_object(row) for row in page.rows], has_more=page.has_more))


async def _fetch_batch(call: Call) -> tuple[StoreRow, FileBatch]:
    """Return the store and the batch, looked up by the pair: to whoever may read the store, within the
    tenant that sent the batch.
    """
    store = await fetch_store(call.services, call.context, call.path("store_id"), "store.read")
    name = BatchId(call.path("batch_id"))
    batch = await call.services.state.file_batches.get(call.context.principal, store.id, name)
    if batch is None:
        raise NotFound.of("file batch", name)
    return store, batch
