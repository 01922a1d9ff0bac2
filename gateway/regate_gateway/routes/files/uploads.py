"""`/v1/uploads`: files that come in parts, for clients that send large ones so. What becomes of them
is `documents/upload_parts.py`'s.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Final

from starlette.responses import Response

from regate_gateway.http.connection import reply
from regate_gateway.http.fields import Fields
from regate_gateway.http.multipart import filename_for_storage, read_upload
from regate_gateway.routes.call import Call
from regate_gateway.routes.files.form import PURPOSES, read_expiry
from regate_gateway.routes.serializers import part_object, upload_object
from regate_orchestrator.documents.upload_parts import MAX_PART_BYTES, MAX_PARTS, OF_AN_UPLOAD
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.values import PartId, UploadId

_MAX_BYTES: Final = 2**53 - 1
_MD5: Final = re.compile(r"[0-9A-Fa-f]{32}")


async def create(call: Call) -> Response:
    """Answer `POST /v1/uploads`. What the policy or a limit would refuse in the end is refused now."""
    fields = Fields(await call.json())
    fields.refuse_unknown({"filename", "purpose", "bytes", "mime_type", "expires_after"})
    for name in ("filename", "purpose", "bytes", "mime_type"):
        fields.required(name)
    fields.string("mime_type", most=255)
    purpose = fields.choice("purpose", PURPOSES, default=None)
    row = await call.services.chunked_uploads.create(
        call.context,
        filename=filename_for_storage(fields.string("filename", most=1_024), param="filename"),
        purpose=purpose,
        size=fields.integer("bytes", least=1, most=_MAX_BYTES, default=1),
        expires_in_s=read_expiry(fields, purpose),
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
    fields = Fields(await call.json())
    fields.refuse_unknown({"part_ids", "md5"})
    fields.required("part_ids")
    parts = [PartId(name) for name in fields.ids("part_ids", most=MAX_PARTS)]
    md5 = fields.maybe_string("md5", most=64)
    if md5 is not None and not _MD5.fullmatch(md5):
        raise InvalidRequest("'md5' must be 32 hexadecimal digits.", param="md5", code="invalid_value")
    row, file = await call.services.chunked_uploads.complete(
        call.context, UploadId(call.path("upload_id")), parts=parts, md5=md5
    )
    return reply(upload_object(row, status="completed", file=file))


async def cancel(call: Call) -> Response:
    """Answer `POST /v1/uploads/{id}/cancel`."""
    row = await call.services.chunked_uploads.cancel(call.context, UploadId(call.path("upload_id")))
    return reply(upload_object(row, status="cancelled"))
