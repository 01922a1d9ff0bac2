"""`/v1/vector_stores`: stores, the files in them, and search. Everything in a shared store is counted and listed per tenant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

from starlette.responses import Response

from regate_gateway.connection import reply
from regate_gateway.fields import Fields
from regate_gateway.routes.call import Call
from regate_gateway.routes.reach import file_view, reach_file, reach_store
from regate_gateway.routes.response_tools import read_ranking_options
from regate_gateway.routes.views import attachment_object, list_object, search_result, store_object
from regate_orchestrator.attributes import split_attributes
from regate_orchestrator.client_filters import read_client_filter
from regate_orchestrator.decisions import Allow, Deny, Point, Question
from regate_orchestrator.enforcer import Batch
from regate_orchestrator.engines import PLACEMENT
from regate_orchestrator.errors import InvalidRequest, NotFound, NotPermitted
from regate_orchestrator.filters import Scalar
from regate_orchestrator.ingestion import Chunking
from regate_orchestrator.retrieval import Search
from regate_orchestrator.rows import Attachment, LooseChunks, StoreRow, Totals
from regate_orchestrator.values import FileId, JsonObject, StoreId, mint

_STATUSES: Final = ("in_progress", "completed", "failed", "cancelled")


async def create(call: Call) -> Response:
    """Answer `POST /v1/vector_stores`."""
    services, context = call.services, call.context
    fields = Fields(await call.json())
    fields.refuse_unsupported("expires_after", "description")
    fields.refuse_unknown({"name", "metadata", "file_ids", "chunking_strategy", "expires_after", "description"})
    name = fields.maybe_string("name", most=256) or ""
    metadata = fields.metadata()
    files = fields.strings("file_ids", most=500, longest=256)
    chunking = _chunking(fields)
    requested = split_attributes(metadata, param="metadata", for_store=True).requested
    if "share" in requested and not services.settings.vector.allow_shared_stores:
        raise InvalidRequest("Stores shared by all tenants are turned off here.", param="metadata.regate.share")
    identifier = StoreId(mint("vs_"))
    resource: JsonObject = {"name": name, "requested": requested}
    question = Question(Point.STORE, "store.create", resource, about=identifier, qualified_by=(PLACEMENT,))
    decision, stamp = await services.enforcer.stamp(context, question, described={"id": identifier, "name": name})
    if isinstance(decision, Deny):
        raise NotPermitted("The policy does not permit this store: " + ("; ".join(decision.reasons) or "no reason given") + ".")
    engine = services.vectors.for_new(decision)
    attached = [await reach_file(services, context, file, "file.read", param="file_ids") for file in files]
    now = int(services.clock())
    model = services.models.default
    row = StoreRow(identifier, name, now, now, metadata, stamp, model.name, await model.dimensions(), engine)
    await services.vectors.create(identifier, dimensions=row.dimensions, engine=engine)
    await services.state.add_store(row)
    for file in attached:
        await services.ingestion.attach(
            context,
            store=row,
            store_view=services.retrieval.view(row),
            file=file,
            file_view=file_view(services, file),
            sent={},
            attributes=split_attributes({}, param="attributes"),
            chunking=chunking,
        )
    return reply(await _shown(call, row))


async def listing(call: Call) -> Response:
    """Answer `GET /v1/vector_stores`: those that the compiled policy lets the caller see."""
    services, principal = call.services, call.context.principal
    plan = await services.enforcer.plan_listing(call.context, Point.STORE, "store.list", unknown="store")
    page = await services.state.stores(principal, plan, call.page())
    totals = await services.state.totals(principal, [row.id for row in page.rows])
    return reply(list_object([store_object(row, totals.get(row.id, Totals())) for row in page.rows], has_more=page.has_more))


async def retrieve(call: Call) -> Response:
    """Answer `GET /v1/vector_stores/{id}`."""
    return reply(await _shown(call, await reach_store(call.services, call.context, call.path("store_id"), "store.read")))


async def delete(call: Call) -> Response:
    """Answer `DELETE /v1/vector_stores/{id}`. Nothing of it can be found from the moment this is acknowledged."""
    row = await reach_store(call.services, call.context, call.path("store_id"), "store.delete")
    if not await call.services.state.delete_store(call.context.principal, row.id):
        raise NotFound.of("vector store", row.id)
    await call.services.chunks.remove(LooseChunks(row.id, None))
    return reply({"id": row.id, "object": "vector_store.deleted", "deleted": True})


async def search(call: Call) -> Response:
    """Answer `POST /v1/vector_stores/{id}/search`."""
    fields = Fields(await call.json())
    fields.refuse_unknown({"query", "rewrite_query", "max_num_results", "filters", "ranking_options"})
    query = fields.required("query")
    queries = [query] if isinstance(query, str) else fields.strings("query", most=16, longest=100_000)
    if not queries or not all(one.strip() for one in queries):
        raise InvalidRequest("'query' must be a string, or a list of strings, that is not empty.", param="query")
    if fields.boolean("rewrite_query", default=False):
        fields.refuse_unsupported("rewrite_query")
    limit = fields.integer("max_num_results", least=1, most=50, default=10)
    narrowing = read_client_filter(fields.values.get("filters"))
    threshold = read_ranking_options(fields)
    retrieval = call.services.retrieval
    (store,) = await retrieval.open(call.context, [StoreId(call.path("store_id"))], param="vector_store_id")
    wanted = Search(tuple(queries), narrowing, limit, threshold)
    hits = await call.while_connected(retrieval.search(call.context, [store], wanted))
    data = [search_result(hit) for hit in hits]
    page = {"object": "vector_store.search_results.page", "search_query": queries, "data": data, "has_more": False, "next_page": None}
    return reply(page)


# ---------------------------------------------------------------- files in a store


async def attach(call: Call) -> Response:
    """Answer `POST /v1/vector_stores/{id}/files`: the ingest decision is made now, the text is read in the background."""
    services, context = call.services, call.context
    fields = Fields(await call.json())
    fields.refuse_unknown({"file_id", "attributes", "chunking_strategy"})
    file_id = fields.string("file_id", most=256)
    wanted = fields.maybe_object("attributes")
    sent = {} if wanted is None else wanted.values
    attributes = split_attributes(sent, param="attributes")
    chunking = _chunking(fields)
    store = await reach_store(services, context, call.path("store_id"), "store.add")
    file = await reach_file(services, context, file_id, "file.read", param="file_id")
    earlier = await services.state.attachment(context.principal, store.id, file.id)
    if earlier is not None and earlier.status == "in_progress":
        raise InvalidRequest("The file is being processed in this store; wait until it is done.", param="file_id")
    attachment = await services.ingestion.attach(
        context,
        store=store,
        store_view=services.retrieval.view(store),
        file=file,
        file_view=file_view(services, file),
        sent=cast("Mapping[str, Scalar]", sent),
        attributes=attributes,
        chunking=chunking,
    )
    return reply(attachment_object(attachment))


async def list_files(call: Call) -> Response:
    """Answer `GET /v1/vector_stores/{id}/files`: those whose chunks the caller may see."""
    services, context = call.services, call.context
    asked = call.query().choice("filter", (*_STATUSES, ""), default="")
    status = asked or None
    store = await reach_store(services, context, call.path("store_id"), "store.read")
    resource = {"store": services.retrieval.view(store)}
    plan = await services.enforcer.plan_listing(context, Point.CHUNK, "chunk.read", unknown="chunk", resource=resource)
    page = await services.state.attachments(context.principal, store.id, plan, call.page(known=("filter",)), status=status)
    return reply(list_object([attachment_object(row) for row in page.rows], has_more=page.has_more))


async def retrieve_file(call: Call) -> Response:
    """Answer `GET /v1/vector_stores/{id}/files/{file_id}`, which clients poll."""
    _, attachment = await _reach_attachment(call)
    return reply(attachment_object(attachment))


async def file_content(call: Call) -> Response:
    """Answer `GET /v1/vector_stores/{id}/files/{file_id}/content`: the text as it was split."""
    store, attachment = await _reach_attachment(call)
    texts = await call.services.vectors.texts(store.id, attachment.file_id) if attachment.status == "completed" else []
    data = [{"type": "text", "text": text} for text in texts]
    return reply({"object": "vector_store.file_content.page", "data": data, "has_more": False, "next_page": None})


async def detach(call: Call) -> Response:
    """Answer `DELETE /v1/vector_stores/{id}/files/{file_id}`. No search finds its chunks from the moment this is acknowledged."""
    services, context = call.services, call.context
    store, attachment = await _reach_attachment(call)
    resource = {"store": services.retrieval.view(store), "attachment": attachment.stamp}
    decision = await services.enforcer.decide(context, Question(Point.STORE, "store.detach", resource, about=attachment.file_id))
    if not isinstance(decision, Allow):
        raise NotPermitted("The policy does not permit removing this file: only its owner or the store's may.")
    if not await services.state.delete_attachment(context.principal, store.id, attachment.file_id):
        raise NotFound.of("vector store file", attachment.file_id)
    await services.forget_chunks(store.id, attachment.file_id)
    return reply({"id": attachment.file_id, "object": "vector_store.file.deleted", "deleted": True})


async def _reach_attachment(call: Call) -> tuple[StoreRow, Attachment]:
    """Return the store and the attachment, looked up by the pair; the chunk rule decides on its stamp."""
    services, context = call.services, call.context
    store = await reach_store(services, context, call.path("store_id"), "store.read")
    file = FileId(call.path("file_id"))
    attachment = await services.state.attachment(context.principal, store.id, file)
    stamp = {} if attachment is None else attachment.stamp
    batch = Batch(stores={store.id: services.retrieval.view(store)}, chunks=[(store.id, stamp)])
    admitted = await services.enforcer.admit(context, "chunk.read", batch)
    if attachment is None or 0 not in admitted.chunks:
        raise NotFound.of("vector store file", file)
    return store, attachment


async def _shown(call: Call, row: StoreRow) -> dict[str, object]:
    totals = await call.services.state.totals(call.context.principal, [row.id])
    return dict(store_object(row, totals.get(row.id, Totals())))


def _chunking(fields: Fields) -> Chunking:
    strategy = fields.maybe_object("chunking_strategy")
    if strategy is None:
        return Chunking()
    strategy.refuse_unknown({"type", "static"})
    if strategy.choice("type", ("auto", "static"), default="auto") == "auto":
        return Chunking()
    static = strategy.object("static")
    static.refuse_unknown({"max_chunk_size_tokens", "chunk_overlap_tokens"})
    size = static.integer("max_chunk_size_tokens", least=100, most=4096, default=800)
    overlap = static.integer("chunk_overlap_tokens", least=0, most=4096, default=400)
    if overlap * 2 > size:
        place = static.param("chunk_overlap_tokens")
        raise InvalidRequest(f"'{place}' must be at most half of 'max_chunk_size_tokens'.", param=place, code="invalid_value")
    return Chunking(size, overlap)
