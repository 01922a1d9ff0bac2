"""`/v1/responses`: create, retrieve, cancel, delete, list, the input items, and what a request would cost.

The loop itself is `regate_orchestrator.responses`. Whatever leaves again from storage passes the same gate as
history (I9): items that rest on what the caller may no longer see are withheld, and results of a search are
given as far as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import cast

from starlette.responses import Response

from regate_gateway.http.bodies import body_pieces, content_type, has_body, parsed
from regate_gateway.http.connection import Emit, EventStream, reply
from regate_gateway.http.misfits import require_known
from regate_gateway.http.queries import repeated
from regate_gateway.routes.authorized_fetch import fetch_response
from regate_gateway.routes.call import Call
from regate_gateway.routes.models import ListQuery
from regate_gateway.routes.prompts.use import resolve_prompt
from regate_gateway.routes.quotas import granting
from regate_gateway.routes.responses.include import ItemsQuery, ReadQuery
from regate_gateway.routes.responses.models import CompactRequest, MeasureRequest
from regate_gateway.routes.responses.redaction import redacted_items
from regate_gateway.routes.responses.request import is_padded, read_response_request
from regate_gateway.routes.responses.stream import follow, readmitted, replay, sent
from regate_gateway.routes.serializers import list_object
from regate_orchestrator.authz.batches import LISTED_RESPONSES
from regate_orchestrator.authz.lists import Listed
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.responses import driver
from regate_orchestrator.responses.request import ResponseRequest
from regate_orchestrator.rows import Page, ResponseRow
from regate_orchestrator.values import JsonObject, ResponseId, mint


async def create(call: Call) -> Response:
    """Answer `POST /v1/responses`: plain, streamed, or in the background."""
    call = _named(call)
    body = await resolve_prompt(call, await call.json())
    tools = call.services.settings.tools
    request = read_response_request(
        body, omit=tools.omit, sections=tools.sections, listed=call.services.upstreams.extra_fields
    )
    start = _start(call, request, path="/v1/responses")
    if start.request.background:
        return await _begin_background(call, start, obscured=is_padded(body))
    if start.request.stream:

        async def stream(emit: Emit) -> None:
            await driver.run(start, ports=call.services.loop, emit=emit)

        return EventStream(stream, obscured=is_padded(body))
    outcome = await call.while_connected(driver.run(start, ports=call.services.loop, emit=_unsent))
    if outcome.error is not None:  # nothing was sent yet, so a failure is still an HTTP status
        raise outcome.error
    return reply(outcome.response)


async def compact(call: Call) -> Response:
    """Answer `POST /v1/responses/compact`: the conversation, summarised and sealed, to go on from."""
    body = await call.json()
    require_known(body, CompactRequest.known)
    request = read_response_request({**body, "store": False})
    start = _start(call, replace(request, compact=True), path="/v1/responses/compact")
    outcome = await call.while_connected(driver.run(start, ports=call.services.loop, emit=_unsent))
    if outcome.error is not None:
        raise outcome.error
    shown = {
        "id": outcome.response["id"],
        "object": "response.compaction",
        "created_at": outcome.response["created_at"],
    }
    return reply({**shown, "output": outcome.response["output"], "usage": outcome.response["usage"]})


async def input_tokens(call: Call) -> Response:
    """Answer `POST /v1/responses/input_tokens` with an estimate: how a model counts is known to its
    backend alone.
    """
    body = await call.json()
    require_known(body, MeasureRequest.known)
    tools = call.services.settings.tools
    request = read_response_request(
        {**body, "store": body.get("conversation") is not None}, omit=tools.omit, sections=tools.sections
    )
    tokens = await call.while_connected(
        driver.measure(_start(call, request, path="/v1/responses/input_tokens"), ports=call.services.loop)
    )
    return reply({"object": "response.input_tokens", "input_tokens": tokens})


async def retrieve(call: Call) -> Response:
    """Answer `GET /v1/responses/{id}`, with `stream` as the events after `starting_after`."""
    asked = await _read_query(call)
    row = await fetch_response(call.services, call.context, call.path("response_id"), "response.read")
    if asked.stream:
        return await follow(call, row, asked)
    if "starting_after" in asked.model_fields_set:
        raise InvalidRequest(
            "'starting_after' is for streams: set 'stream' to true.",
            param="starting_after",
            code="invalid_value",
        )
    return reply(await _shown_response(call, row, asked.include))


async def cancel(call: Call) -> Response:
    """Answer `POST /v1/responses/{id}/cancel`, for background responses. One that has ended is
    answered as it ended.
    """
    row = await fetch_response(call.services, call.context, call.path("response_id"), "response.cancel")
    if not row.background:
        raise InvalidRequest(
            "Only a response that was created with 'background' can be cancelled.", param="response_id"
        )
    await call.services.background.cancel(call.context.principal, row.id)
    row = await fetch_response(call.services, call.context, row.id, "response.read")
    return reply(await _shown_response(call, row, ()))


async def delete(call: Call) -> Response:
    """Answer `DELETE /v1/responses/{id}`. One that is still being made is cancelled first."""
    row = await fetch_response(call.services, call.context, call.path("response_id"), "response.delete")
    await call.services.background.cancel(call.context.principal, row.id)
    await call.services.state.responses.delete(call.context.principal, row.id)
    return reply({"id": row.id, "object": "response", "deleted": True})


async def listing(call: Call) -> Response:
    """Answer `GET /v1/responses`: the caller's responses, without their output items. An extension;
    OpenAI has no such list.
    """
    services = call.services
    listed = Listed(LISTED_RESPONSES, name=lambda row: row.id, view=ResponseRow.view)
    page = await services.listings.page(
        call.context,
        listed,
        call.query(ListQuery).page,
        partial(services.state.responses.page, call.context.principal),
    )
    return reply(list_object([{**row.body, "output": []} for row in page.rows], has_more=page.has_more))


async def input_items(call: Call) -> Response:
    """Answer `GET /v1/responses/{id}/input_items`."""
    asked = call.query(ItemsQuery)
    row = await fetch_response(call.services, call.context, call.path("response_id"), "response.read")
    items = redacted_items(await readmitted(call, row), asked.include, direction="input")
    return reply(_page_of(items, asked.page))


async def _read_query(call: Call) -> ReadQuery:
    """Return how the response is to be read, with what the body says beside the query: OpenAI's client for
    Go says `stream` in the body of this GET.
    """
    asked, scope = call.query(ReadQuery), call.request.scope
    if not has_body(scope) or content_type(scope) not in (
        "application/json",
        "",
    ):  # that client declares no type
        return asked
    pieces = [
        piece
        async for piece in body_pieces(
            scope, call.request.receive, limit=call.services.settings.listen.max_body_bytes
        )
    ]
    said = ReadQuery.read(await parsed(b"".join(pieces)))
    for name in sorted(asked.model_fields_set & said.model_fields_set - {"include"}):
        raise repeated(name)
    both = {name: getattr(said, name) for name in said.model_fields_set}
    return asked.model_copy(update={**both, "include": [*asked.include, *said.include]})


# ---------------------------------------------------------------- streams and background


def _named(call: Call) -> Call:
    """Return the call with the id of the response that it makes, so that all that is decided for it is
    recorded as for that response.
    """
    return replace(call, context=replace(call.context, response_id=mint("resp_")))


def _start(call: Call, request: ResponseRequest, *, path: str) -> driver.Start:
    response_id = ResponseId(call.context.response_id or mint("resp_"))
    return driver.Start(
        request, replace(call.context, response_id=response_id), response_id, granting(call, path)
    )


async def _begin_background(call: Call, start: driver.Start, *, obscured: bool) -> Response:
    background = call.services.background
    queued = await call.while_connected(background.start(start))
    if not start.request.stream:
        return reply(queued)
    events = background.follow(start.response_id, after=-1)
    if events is None:  # it has ended already
        row = await fetch_response(call.services, call.context, start.response_id, "response.read")
        return EventStream(replay(call, row, -1, ()), obscured=obscured)
    return EventStream(sent(events), obscured=obscured)


# ---------------------------------------------------------------- what is shown


async def _shown_response(call: Call, row: ResponseRow, include: Sequence[str]) -> JsonObject:
    return {
        **row.body,
        "output": redacted_items(await readmitted(call, row), include, direction="output"),
    }


def _page_of(items: Sequence[JsonObject], page: Page) -> JsonObject:
    ordered = list(items) if page.order == "asc" else list(items)[::-1]
    ids = [cast("str", item["id"]) for item in ordered]
    for param, cursor in (("after", page.after), ("before", page.before)):
        if cursor is not None and cursor not in ids:
            raise InvalidRequest(f"No such item: {cursor}", param=param)
    start = 0 if page.after is None else ids.index(page.after) + 1
    left = ordered[start : None if page.before is None else max(start, ids.index(page.before))]
    backwards = page.before is not None and page.after is None  # the items nearest to `before`
    return list_object(
        left[-page.limit :] if backwards else left[: page.limit], has_more=len(left) > page.limit
    )


async def _unsent(event: JsonObject) -> None:
    """Send an event to nobody: a plain answer is sent whole at the end."""
