"""What a server can fail in, as the port tells it: in our words, without addresses; of the server's own words
only those of its protocol errors, cleaned.
"""

from __future__ import annotations

from typing import Final

from regate_orchestrator.values import JsonObject

INTERNAL: Final = -32_603
NO_TOKEN: Final = "No token for the server could be had."  # noqa: S105 — words
_MAX_MESSAGE: Final = 1_000


class McpFailed(Exception):
    """The exchange with a server failed. `error` is what the port tells of it."""

    def __init__(self, error: JsonObject, *, unauthorized: bool = False) -> None:
        super().__init__(str(error["message"]))
        self.error = error
        self.unauthorized = unauthorized
        """Whether the server did not accept the token, so that nothing was done."""


def protocol_error(message: str, code: int = INTERNAL) -> JsonObject:
    """Return the error of a server that does not keep to the protocol, or says that it failed."""
    return {"type": "mcp_protocol_error", "code": code, "message": message[:_MAX_MESSAGE]}


def http_error(message: str, code: int) -> JsonObject:
    """Return the error of a server that cannot be reached, or refuses over HTTP."""
    return {"type": "http_error", "code": code, "message": message}
