"""`/v1/responses`: create, retrieve, delete, list, and the input items. The loop itself is `regate_orchestrator.responses`.

What leaves again from storage passes the same gate as what enters a prompt (I9): text that rests on a chunk no longer permitted is
withheld, and `file_search_call.results` are given as far as they are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from starlette.responses import Response

from regate_gateway.connection import Emit, EventStream, reply
from regate_gateway.routes.call import Call
from regate_gateway.routes.reach import reach_response
from regate_gateway.routes.response_request import read_response_request
from regate_gateway.routes.views import list_object
from regate_orchestrator.decisions import Point
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.responses import driver
from regate_orchestrator.responses.history import history_of, passages_of, shown_body
from regate_orchestrator.rows import Page, ResponseRow
from regate_orchestrator.values import JsonObject, ResponseId, mint


async def create(call: Call) -> Response:
    """Answer `POST /v1/responses`, plain or streamed."""
    request = read_response_request(await call.json())
    response_id = ResponseId(mint("resp_"))
    context = replace(call.context, response_id=response_id)
    ports = call.services.loop

    async def stream(emit: Emit) -> None:
        await driver.run(request, context=context, response_id=response_id, ports=ports, emit=emit)

    if request.stream:
        return EventStream(stream)
    work = driver.run(request, context=context, response_id=response_id, ports=ports, emit=_unsent)
    outcome = await call.while_connected(work)
    if outcome.error is not None:  # nothing was sent yet, so a failure is still an HTTP status
        raise outcome.error
    return reply(outcome.response)


async def retrieve(call: Call) -> Response:
    """Answer `GET /v1/responses/{id}`."""
    query = call.query()
    query.refuse_unknown({"include", "stream", "include_obfuscation"})
    if query.boolean("stream", default=False):
        raise InvalidRequest("'stream' is not supported for stored responses by this gateway yet.", param="stream")
    row = await reach_response(call.services, call.context, call.path("response_id"), "response.read")
    output = await _shown(call, row, direction="output")
    return reply({**row.body, "output": output})


async def delete(call: Call) -> Response:
    """Answer `DELETE /v1/responses/{id}`."""
    row = await reach_response(call.services, call.context, call.path("response_id"), "response.delete")
    await call.services.state.delete_response(call.context.principal, row.id)
    return reply({"id": row.id, "object": "response", "deleted": True})


async def listing(call: Call) -> Response:
    """Answer `GET /v1/responses`: the caller's responses, without their output items. An extension; OpenAI has no such list."""
    plan = await call.services.enforcer.plan_listing(call.context, Point.HISTORY, "response.list", unknown="item")
    page = await call.services.state.responses(call.context.principal, plan, call.page())
    return reply(list_object([{**row.body, "output": []} for row in page.rows], has_more=page.has_more))


async def input_items(call: Call) -> Response:
    """Answer `GET /v1/responses/{id}/input_items`."""
    row = await reach_response(call.services, call.context, call.path("response_id"), "response.read")
    items = await _shown(call, row, direction="input")
    return reply(_page_of(items, call.page(known=("include",))))


async def _shown(call: Call, row: ResponseRow, *, direction: str) -> list[JsonObject]:
    """Return the row's items as the caller may see them now."""
    left = await driver.readmitted(call.context, history_of([row]), ports=call.services.loop, phase="response.read")
    include = call.query().strings("include", most=20)
    shown: list[JsonObject] = []
    for item, visible in left.items:
        if item.direction != direction:
            continue
        body = shown_body(item, visible)
        if body["type"] == "file_search_call" and "file_search_call.results" in include:
            body = {**body, "results": [passage.as_result() for passage in passages_of(item, left.refs)] if visible else []}
        shown.append(body)
    return shown


def _page_of(items: list[JsonObject], page: Page) -> JsonObject:
    ordered = items if page.order == "asc" else items[::-1]
    start = 0
    if page.after is not None:
        ids = [cast("str", item["id"]) for item in ordered]
        if page.after not in ids:
            raise InvalidRequest(f"No such item: {page.after}", param="after")
        start = ids.index(page.after) + 1
    return list_object(ordered[start : start + page.limit], has_more=len(ordered) > start + page.limit)


async def _unsent(event: JsonObject) -> None:
    """Send an event to nobody: a plain answer is sent whole at the end."""
