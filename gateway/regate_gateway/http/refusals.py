"""What the server answers by itself, before any application: requests that are no HTTP, too large or
too slow. As bytes, in the envelope.
"""

from __future__ import annotations

from typing import Final

import orjson

_REASONS: Final = {
    400: ("Bad Request", "The request is not valid HTTP."),
    408: ("Request Timeout", "The request did not arrive in time."),
    431: ("Request Header Fields Too Large", "The request's head is too large."),
    503: ("Service Unavailable", "There are too many connections. Try again later."),
}


def refusal(status: int, message: str | None = None) -> bytes:
    """Return the whole answer, which ends the connection. `message` says more than the status does."""
    reason, usual = _REASONS[status]
    kind = "server_error" if status >= 500 else "invalid_request_error"
    body = orjson.dumps({"error": {"message": message or usual, "type": kind, "param": None, "code": None}})
    retry = "retry-after: 5\r\n" if status == 503 else ""
    head = (
        f"HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\ncontent-length: "
        f"{len(body)}\r\n{retry}connection: close\r\n\r\n"
    )
    return head.encode() + body
