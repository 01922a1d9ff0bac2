"""`/v1/files`: upload, list, retrieve, content, delete. Bytes go to disk as they arrive and come back in pieces."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Final

from starlette.responses import Response, StreamingResponse

from regate_gateway.connection import reply
from regate_gateway.routes.call import Call
from regate_gateway.routes.reach import reach_file
from regate_gateway.routes.views import file_object, list_object
from regate_gateway.uploads import read_upload
from regate_orchestrator.decisions import Deny, Point, Question
from regate_orchestrator.errors import InvalidRequest, NotFound, NotPermitted
from regate_orchestrator.rows import FileRow
from regate_orchestrator.values import FileId, mint

_PURPOSES: Final = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")


async def upload(call: Call) -> Response:
    """Answer `POST /v1/files`. A file that is refused, by the policy or by a limit, leaves nothing behind."""
    services, context = call.services, call.context
    identifier = FileId(mint("file-"))
    limit = services.settings.listen.max_file_bytes

    async def store(_filename: str, pieces: AsyncIterator[bytes]) -> int:
        return await services.blobs.write(identifier, pieces, limit=limit)

    try:
        form = await read_upload(call.request.scope, call.request.receive, limit=limit, store=store)
        purpose = _purpose(form.fields)
        described = {"id": identifier, "filename": form.filename, "purpose": purpose}
        question = Question(Point.FILE, "file.create", {**described, "requested": {}}, about=identifier)
        decision, stamp = await services.enforcer.stamp(context, question, described=described)
        if isinstance(decision, Deny):
            raise NotPermitted("The policy does not permit this upload: " + ("; ".join(decision.reasons) or "no reason given") + ".")
        row = FileRow(identifier, form.filename, form.size, purpose, int(services.clock()), stamp)
        await services.state.add_file(row)
    except BaseException:
        await services.blobs.delete(identifier)
        raise
    return reply(file_object(row))


async def listing(call: Call) -> Response:
    """Answer `GET /v1/files`: those that the compiled policy lets the caller see."""
    purpose = call.query().choice("purpose", (*_PURPOSES, ""), default="") or None
    plan = await call.services.enforcer.plan_listing(call.context, Point.FILE, "file.list", unknown="file")
    page = call.page(default=10_000, most=10_000, known=("purpose",))
    rows = await call.services.state.files(call.context.principal, plan, page, purpose=purpose)
    return reply(list_object([file_object(row) for row in rows.rows], has_more=rows.has_more))


async def retrieve(call: Call) -> Response:
    """Answer `GET /v1/files/{id}`."""
    return reply(file_object(await reach_file(call.services, call.context, call.path("file_id"), "file.read")))


async def content(call: Call) -> Response:
    """Answer `GET /v1/files/{id}/content` with the bytes, as a download: never as something a browser would run."""
    row = await reach_file(call.services, call.context, call.path("file_id"), "file.read")
    headers = {
        "content-length": str(row.bytes),
        "content-disposition": "attachment",
        "x-content-type-options": "nosniff",
    }
    return StreamingResponse(call.services.blobs.read(row.id), media_type="application/octet-stream", headers=headers)


async def delete(call: Call) -> Response:
    """Answer `DELETE /v1/files/{id}`. Its chunks can be found nowhere from the moment this is acknowledged."""
    services, principal = call.services, call.context.principal
    row = await reach_file(services, call.context, call.path("file_id"), "file.delete")
    stores = await services.state.delete_file(principal, row.id)
    if stores is None:
        raise NotFound.of("file", row.id)
    await services.blobs.delete(row.id)
    for store in stores:
        await services.forget_chunks(store, row.id)
    return reply({"id": row.id, "object": "file", "deleted": True})


def _purpose(fields: Mapping[str, str]) -> str:
    """Return the purpose of a form whose fields are all known."""
    for name in fields:
        if name != "purpose":
            code = "unsupported_parameter" if name.startswith("expires_after") else "unknown_parameter"
            raise InvalidRequest(f"'{name[:100]}' is not supported by this gateway.", param=name[:100], code=code)
    purpose = fields.get("purpose", "")
    if purpose not in _PURPOSES:
        listed = ", ".join(f"'{one}'" for one in _PURPOSES)
        raise InvalidRequest(f"'purpose' must be one of {listed}.", param="purpose", code="invalid_value")
    return purpose
