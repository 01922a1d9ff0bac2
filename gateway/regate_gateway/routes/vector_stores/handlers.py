"""`/v1/vector_stores`: stores, and search in them. Everything in a shared store is counted and listed per
tenant.

The files in a store are `files.py`, and those that come in batches `file_batches.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Final

from starlette.responses import Response

from regate_gateway.http.connection import reply
from regate_gateway.http.models import MAX_METADATA
from regate_gateway.routes.authorized_fetch import fetch_store
from regate_gateway.routes.call import Call, request_view
from regate_gateway.routes.models import ListQuery
from regate_gateway.routes.quotas import Demand, spend
from regate_gateway.routes.serializers import list_object, search_result, store_object
from regate_gateway.routes.vector_stores.models import SearchRequest, VectorStoreRequest, VectorStoreUpdate
from regate_gateway.routes.vector_stores.wanted import first_files
from regate_orchestrator.authz.batches import LISTED_STORES
from regate_orchestrator.authz.decisions import Deny, Point, Question
from regate_orchestrator.authz.lists import Listed
from regate_orchestrator.documents.attributes import split_attributes
from regate_orchestrator.errors import (
    InvalidRequest,
    NotFound,
    NotPermitted,
    PolicyUnavailable,
    VectorStoreUnavailable,
)
from regate_orchestrator.filters.client import read_client_filter
from regate_orchestrator.quota.limits import quota_question
from regate_orchestrator.retrieval.engines import PLACEMENT
from regate_orchestrator.retrieval.search import Search
from regate_orchestrator.retrieval.stores import expired
from regate_orchestrator.rows import OrphanedChunks, StoreChanges, StoreRow, Totals
from regate_orchestrator.tokens import estimated_tokens
from regate_orchestrator.values import FileId, Json, JsonObject, StoreId, mint

_log = logging.getLogger("regate.vector_stores")
_PLACE_SECONDS: Final = 600
"""How long a new store's place may be without its row; making both takes far less."""


async def create(call: Call) -> Response:
    """Answer `POST /v1/vector_stores`."""
    services, context = call.services, call.context
    asked = await call.body(VectorStoreRequest)
    name, metadata, expiry = asked.name, asked.metadata, asked.expires_after
    wanted = first_files(asked)
    requested = _requested(call, metadata)
    identifier = StoreId(mint("vs_"))
    resource: JsonObject = {"name": name, "requested": requested}
    question = Question(Point.STORE, "store.create", resource, about=identifier, companions=(PLACEMENT,))
    decision, stamp = await services.enforcer.stamp(
        context, question, described={"id": identifier, "name": name}
    )
    if isinstance(decision, Deny):
        raise _refused(decision)
    engine = services.vectors.for_new(decision)
    now = int(services.clock())
    model = services.models.default
    row = StoreRow(
        id=identifier,
        name=name,
        created_at=now,
        last_active_at=now,
        metadata=metadata,
        stamp=stamp,
        embedder=model.name,
        dimensions=await model.dimensions(),
        engine=engine,
        description=asked.description,
        expires_after_days=None if expiry is None else expiry.days,
    )
    files = await services.attachments.decide(context, row, services.retrieval.view(row), wanted)
    await services.state.orphaned_chunks.reserve(_place(identifier), ttl_s=_PLACE_SECONDS)
    await services.vectors.create(identifier, dimensions=row.dimensions, engine=engine)
    await services.state.vector_stores.add(row)
    try:
        await services.attachments.put(context, files)
    except (
        NotFound
    ):  # a file was deleted after it was decided about: a store that was not answered must not stay
        await _remove(call, identifier)
        raise
    return reply(await _shown(call, identifier))


async def listing(call: Call) -> Response:
    """Answer `GET /v1/vector_stores`: those that the policy lets the caller see."""
    services, principal = call.services, call.context.principal
    listed = Listed(LISTED_STORES, name=lambda row: row.id, view=services.retrieval.view)
    page = await services.listings.page(
        call.context,
        listed,
        call.query(ListQuery).page,
        partial(services.state.vector_stores.page, principal),
    )
    totals = await services.state.attachments.totals(principal, [row.id for row in page.rows])
    now = services.clock()
    return reply(
        list_object(
            [store_object(row, totals.get(row.id, Totals()), now=now) for row in page.rows],
            has_more=page.has_more,
        )
    )


async def retrieve(call: Call) -> Response:
    """Answer `GET /v1/vector_stores/{id}`."""
    row = await fetch_store(call.services, call.context, call.path("store_id"), "store.read")
    return reply(await _shown(call, row.id))


async def update(call: Call) -> Response:
    """Answer `POST /v1/vector_stores/{id}`. What is not named stays; metadata with a sharing request
    has all sharing decided anew.
    """
    services, context = call.services, call.context
    asked = await call.body(VectorStoreUpdate)
    name, metadata = asked.name, asked.metadata
    requested = _requested(call, metadata or {})
    row = await fetch_store(services, context, call.path("store_id"), "store.update")
    if row.has_expired(services.clock()):
        raise expired(row.id)
    stamp = await _shared_anew(call, row, requested, name=name) if requested else None
    if metadata is not None and not requested:
        metadata = _with_requests_of(row, metadata)
    changes = StoreChanges(name=name, metadata=metadata, stamp=stamp, expires_after_days=asked.expiry)
    if not await services.state.vector_stores.update(context.principal, row.id, changes):
        raise NotFound.of("vector store", row.id)
    await services.state.vector_stores.touch(context.principal, row.id, at=int(services.clock()))
    return reply(await _shown(call, row.id))


async def delete(call: Call) -> Response:
    """Answer `DELETE /v1/vector_stores/{id}`. Nothing of it can be found from the moment this is
    acknowledged.
    """
    row = await fetch_store(call.services, call.context, call.path("store_id"), "store.delete")
    if not await _remove(call, row.id):
        raise NotFound.of("vector store", row.id)
    return reply({"id": row.id, "object": "vector_store.deleted", "deleted": True})


async def search(call: Call) -> Response:
    """Answer `POST /v1/vector_stores/{id}/search`."""
    asked = await call.body(SearchRequest)
    narrowing = read_client_filter(asked.filters)
    retrieval = call.services.retrieval
    (store,) = await retrieval.open(call.context, [StoreId(call.path("store_id"))], param="vector_store_id")
    queries = asked.queries
    if asked.rewrite_query:
        queries = await _rewritten(call, queries)
    wanted = Search(tuple(dict.fromkeys(queries)), narrowing, asked.max_num_results, asked.ranking)
    hits = await call.while_connected(retrieval.search(call.context, [store], wanted))
    data = [search_result(hit) for hit in hits]
    page = {
        "object": "vector_store.search_results.page",
        "search_query": queries,
        "data": data,
        "has_more": False,
        "next_page": None,
    }
    return reply(page)


async def _rewritten(call: Call, queries: list[str]) -> list[str]:
    """Return the queries rewritten. Where a model does so, the caller's quota is asked first."""
    rewriting, chosen = call.services.rewriting, call.services.settings.query_rewriting
    shown = rewriting.shown(queries)
    if rewriting.model is None or chosen is None or not shown:
        return await rewriting.of(call.context, queries)
    view = request_view("POST", "/v1/vector_stores/{vector_store_id}/search", rewriting.model)
    decision = await call.services.enforcer.decide(call.context, quota_question(view))
    demand = Demand(estimated_tokens(shown), chosen.max_tokens, choices=len(shown))
    spending = await spend(call, decision, demand, model=rewriting.model)
    try:
        return await call.while_connected(rewriting.of(call.context, queries, spending))
    finally:
        await spending.end()


async def _remove(call: Call, store: StoreId) -> bool:
    """Delete the store with all that is in it; return False when it has gone already."""
    services = call.services
    if not await services.state.vector_stores.delete(call.context.principal, store):
        return False
    try:
        await services.vectors.drop(store)
    except (
        VectorStoreUnavailable
    ) as error:  # the row is gone, so no search can reach what is orphaned (ADR 0005), and it is collected
        _log.warning("vectors_left_behind", extra={"store": store, "detail": error.detail})
    else:
        await services.state.orphaned_chunks.forget(_place(store))
    return True


def _requested(call: Call, metadata: Mapping[str, str]) -> Mapping[str, Json]:
    """Return the sharing that is asked for."""
    requested = split_attributes(metadata, param="metadata", for_store=True).requested
    if "share" in requested and not call.services.settings.vector.allow_shared_stores:
        raise InvalidRequest(
            "Stores shared by all tenants are turned off here.", param="metadata.regate.share"
        )
    return requested


async def _shared_anew(
    call: Call, row: StoreRow, requested: Mapping[str, Json], *, name: str | None
) -> JsonObject:
    """Return the stamp of a store whose sharing is asked for anew, as decided by the rule that decides
    it of a new store.
    """
    services = call.services
    resource: JsonObject = {"store": services.retrieval.view(row), "requested": requested}
    question = Question(Point.STORE, "store.update", resource, about=row.id)
    described = {"id": row.id, "name": row.name if name is None else name}
    decision, stamp = await services.enforcer.stamp(call.context, question, described=described)
    if isinstance(decision, Deny):
        raise _refused(decision)
    if stamp["owner"] != row.stamp["owner"]:  # INVARIANT: write-once, whatever the policy says
        raise PolicyUnavailable("regate/store/stamp: the owner of a store never changes")
    return stamp


def _with_requests_of(row: StoreRow, metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the metadata with the sharing requests that are in force: they stay until others are
    made, and so does what is shown of them.
    """
    kept = {key: value for key, value in row.metadata.items() if key.lower().startswith("regate.")}
    if len(kept) + len(metadata) > MAX_METADATA:
        message = (
            f"'metadata' may have {MAX_METADATA - len(kept)} keys beside the sharing requests that are in "
            "force."
        )
        raise InvalidRequest(message, param="metadata", code="object_above_max_properties")
    return {**metadata, **kept}


def _refused(decision: Deny) -> NotPermitted:
    return NotPermitted(
        "The policy does not permit this store: " + ("; ".join(decision.reasons) or "no reason given") + "."
    )


def _place(store: StoreId) -> OrphanedChunks:
    return OrphanedChunks(store, FileId(""), "")


async def _shown(call: Call, store: StoreId) -> dict[str, object]:
    """Return the store as it is now, as the caller's tenant sees it."""
    services, principal = call.services, call.context.principal
    row = await services.state.vector_stores.get(principal, store)
    if row is None:
        raise NotFound.of("vector store", store)
    totals = await services.state.attachments.totals(principal, [store])
    return dict(store_object(row, totals.get(store, Totals()), now=services.clock()))
