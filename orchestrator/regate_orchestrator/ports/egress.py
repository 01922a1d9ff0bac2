"""What fetches from outside: files and images that clients name by address, and pages that a model names; and
what sends requests to services that the configuration names.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from regate_orchestrator.principal import Context

Purpose: TypeAlias = Literal["mcp", "page", "file", "image", "search", "code"]
"""What is wanted outside, as `regate.egress` is told."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was fetched. The media type is what the server claims, in lower case and without parameters; empty
    where it claims none.
    """

    data: bytes = field(repr=False)
    media_type: str
    url: str
    """Where it was found in the end."""


class Fetcher(Protocol):
    """Fetches over HTTP what policies permit. Proven by `tests/adapters/egress`."""

    async def fetch(self, context: Context, url: str, purpose: Purpose, *, limit_bytes: int) -> Fetched:
        """Return what the address leads to.

        Each place that is connected to, also of a redirect, must have been decided for the caller before. It
        must be connected to at an address that was checked. Raises `InvalidRequest` for an address that is
        none, `EgressDenied` for one that may not be connected to, `TooLarge` past the limit, and
        `FetchFailed` for what cannot be had.
        """
        ...


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request to a service that the configuration names. Its headers may hold the service's key."""

    method: Literal["GET", "POST", "PUT", "DELETE"]
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)


class Channel(Protocol):
    """An open WebSocket. Raises `FetchFailed` once it is closed or broken, and for a message that is too
    long.
    """

    async def send(self, text: str) -> None:
        """Send one message."""
        ...

    async def receive(self) -> str:
        """Return the next message. Must honour cancellation: whoever waits has a deadline."""
        ...


class ServiceClient(Protocol):
    """Sends requests to services that the configuration names. Proven by `tests/adapters/egress`."""

    async def send(
        self, context: Context, request: Outgoing, purpose: Purpose, *, limit_bytes: int, deadline_s: float
    ) -> Fetched:
        """Return what the service answered with a status of success.

        The place must have been decided for the caller before. No redirect is followed, and nothing of the
        request may be in an error. Raises `EgressDenied`, `TooLarge` past the limit, and `FetchFailed`.
        """
        ...

    def channel(
        self, context: Context, request: Outgoing, purpose: Purpose, *, limit_bytes: int, deadline_s: float
    ) -> AbstractAsyncContextManager[Channel]:
        """Yield a WebSocket to the service at this address, of http or https; closed on leaving.

        `limit_bytes` bounds each message, and the deadline the opening. Raises as `send` does.
        """
        ...
