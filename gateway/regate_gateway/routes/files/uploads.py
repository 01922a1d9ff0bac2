"""`/v1/uploads`: files that come in parts, for clients that send large ones so. What becomes of them
is `documents/upload_parts.py`'s.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.responses import Response

from regate_gateway.http.connection import reply
from regate_gateway.http.multipart import filename_for_storage, read_upload
from regate_gateway.routes.call import Call
from regate_gateway.routes.files.models import CompleteRequest, UploadRequest, expires_in
from regate_gateway.routes.serializers import part_object, upload_object
from regate_orchestrator.documents.upload_parts import MAX_PART_BYTES, OF_AN_UPLOAD
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.values import PartId, UploadId


async def create(call: Call) -> Response:
    """Answer `POST /v1/uploads`. What the policy or a limit would refuse in the end is refused now."""
    wanted = await call.body(UploadRequest)
    row = await call.services.chunked_uploads.create(
        call.context,
        filename=filename_for_storage(wanted.filename, param="filename"),
        purpose=wanted.purpose,
        size=wanted.bytes,
        expires_in_s=expires_in(wanted.expires_after, wanted.purpose),
    )
    return reply(upload_object(row, status="pending"))


async def add_part(call: Call) -> Response:
    """Answer `POST /v1/uploads/{id}/parts`: the bytes go to storage as they arrive."""
    services = call.services
    row = await services.chunked_uploads.pending(call.context, UploadId(call.path("upload_id")))
    async with services.files.receiving(call.context, replacing=OF_AN_UPLOAD) as incoming:

        async def store(_filename: str, pieces: AsyncIterator[bytes]) -> int:
            return await incoming.write(pieces)

        most = min(incoming.limit, MAX_PART_BYTES)
        form = await read_upload(
            call.request.scope, call.request.receive, limit=most, store=store, field="data", unnamed="part"
        )
        for name in form.fields:
            raise InvalidRequest(
                f"Unknown parameter: '{name[:100]}'.", param=name[:100], code="unknown_parameter"
            )
        part = await incoming.keep_as(
            lambda blob: services.chunked_uploads.add_part(call.context, row, blob, size=form.size)
        )
    return reply(part_object(part))


async def complete(call: Call) -> Response:
    """Answer `POST /v1/uploads/{id}/complete` with the upload and its file."""
    wanted = await call.body(CompleteRequest)
    parts = [PartId(name) for name in wanted.part_ids]
    row, file = await call.services.chunked_uploads.complete(
        call.context, UploadId(call.path("upload_id")), parts=parts, md5=wanted.md5
    )
    return reply(upload_object(row, status="completed", file=file))


async def cancel(call: Call) -> Response:
    """Answer `POST /v1/uploads/{id}/cancel`."""
    row = await call.services.chunked_uploads.cancel(call.context, UploadId(call.path("upload_id")))
    return reply(upload_object(row, status="cancelled"))
