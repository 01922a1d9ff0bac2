"""`/openapi.json`: the document that describes every route. It tells of the product, never of
anybody's data, so it needs no token.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response


async def specification(request: Request) -> Response:  # noqa: ARG001 — Starlette's signature
    """Answer `GET /openapi.json`."""
    from regate_gateway.openapi.document import document  # loaded by whoever asks first, not at start

    return Response(document(), media_type="application/json")
