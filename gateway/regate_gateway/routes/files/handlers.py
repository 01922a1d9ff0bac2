"""`/v1/files`: upload, list, retrieve, content, delete. Bytes go to storage as they arrive and come
back in pieces.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

from starlette.responses import Response, StreamingResponse

from regate_gateway.http.connection import reply
from regate_gateway.http.multipart import read_upload
from regate_gateway.routes.authorized_fetch import fetch_file, file_view
from regate_gateway.routes.call import Call
from regate_gateway.routes.files.form import read_file_form
from regate_gateway.routes.files.models import FilesQuery
from regate_gateway.routes.serializers import file_object, list_object
from regate_orchestrator.authz.batches import LISTED_FILES
from regate_orchestrator.authz.lists import Listed
from regate_orchestrator.errors import NotFound


async def upload(call: Call) -> Response:
    """Answer `POST /v1/files`. A file that is refused, by the policy or by a limit, leaves nothing behind."""
    async with call.services.files.receiving(call.context) as incoming:

        async def store(_filename: str, pieces: AsyncIterator[bytes]) -> int:
            return await incoming.write(pieces)

        form = await read_upload(call.request.scope, call.request.receive, limit=incoming.limit, store=store)
        call.say(form.meaning())
        said = read_file_form(form.fields)
        row = await incoming.keep(
            filename=form.filename, size=form.size, purpose=said.purpose, expires_in_s=said.expires_in_s
        )
    return reply(file_object(row))


async def listing(call: Call) -> Response:
    """Answer `GET /v1/files`: those that the policy lets the caller see."""
    services = call.services
    asked = call.query(FilesQuery)
    listed = Listed(LISTED_FILES, name=lambda row: row.id, view=partial(file_view, services))
    rows = await services.listings.page(
        call.context,
        listed,
        asked.page,
        partial(services.state.files.page, call.context.principal, purpose=asked.purpose or None),
    )
    return reply(list_object([file_object(row) for row in rows.rows], has_more=rows.has_more))


async def retrieve(call: Call) -> Response:
    """Answer `GET /v1/files/{id}`."""
    return reply(
        file_object(await fetch_file(call.services, call.context, call.path("file_id"), "file.read"))
    )


async def content(call: Call) -> Response:
    """Answer `GET /v1/files/{id}/content` with the bytes, as a download: never as something a browser
    would run.
    """
    row = await fetch_file(call.services, call.context, call.path("file_id"), "file.read")
    headers = {
        "content-length": str(row.bytes),
        "content-disposition": "attachment",
        "x-content-type-options": "nosniff",
    }
    pieces = await _begun(call.services.blobs.read(row.id))
    return StreamingResponse(pieces, media_type="application/octet-stream", headers=headers)


async def delete(call: Call) -> Response:
    """Answer `DELETE /v1/files/{id}`. Its chunks can be found nowhere from the moment this is
    acknowledged.
    """
    services, principal = call.services, call.context.principal
    row = await fetch_file(services, call.context, call.path("file_id"), "file.delete")
    stores = await services.files.remove(principal, row.id)
    if stores is None:
        raise NotFound.of("file", row.id)
    for store in stores:
        await services.forget_chunks(store, row.id)
    return reply({"id": row.id, "object": "file", "deleted": True})


async def _begun(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Return the pieces when the first of them is here: a storage that fails before has its own
    status, and not that of an answer begun.
    """
    first = await anext(pieces, b"")

    async def every() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return every()
