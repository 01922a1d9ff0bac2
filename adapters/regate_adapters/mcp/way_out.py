"""The way out that servers are reached by: a guard's, which decides each connection for the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from regate_orchestrator.principal import Context

if TYPE_CHECKING:
    import httpx2


class WayOut(Protocol):
    """Lets out to servers. Implementations must decide before they look a name up or connect."""

    async def require(self, context: Context, url: str, *, operator_named: bool) -> None:
        """Return once the connection is permitted. Raises `EgressDenied`, and `InvalidRequest` for no
        address.
        """
        ...

    async def transport(
        self, context: Context, url: str, *, operator_named: bool, limit_bytes: int
    ) -> tuple[httpx2.AsyncBaseTransport, str]:
        """Return a transport that leads there and nowhere else, and the address as it was read. Raises as
        `require` does, and `FetchFailed`.
        """
        ...
