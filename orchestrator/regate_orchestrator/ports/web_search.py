"""What searches the web."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from regate_orchestrator.principal import Context


class SearchFailed(Exception):
    """The provider gave no usable answer. The message is plain, and holds no query, address or key."""


@dataclass(frozen=True, slots=True)
class WebPlace:
    """Where the user is, roughly, as the request says it."""

    country: str = ""
    """Two letters (ISO 3166), in upper case."""
    region: str = ""
    city: str = ""
    timezone: str = ""


@dataclass(frozen=True, slots=True)
class WebQuery:
    """One search. `domains` are the only ones, with all below them; none for no such limit."""

    text: str
    limit: int
    domains: tuple[str, ...] = ()
    place: WebPlace | None = None


@dataclass(frozen=True, slots=True)
class WebHit:
    """One result, in the provider's words."""

    url: str
    title: str
    snippet: str


class SearchProvider(Protocol):
    """Searches the web. Proven by `tests/adapters/web_search`.

    The provider's domains and limit are advice: whoever asks must hold the hits to them. The connection must
    be decided for the caller (`regate.egress`) before it is made.
    """

    async def search(self, context: Context, query: WebQuery) -> Sequence[WebHit]:
        """Return the hits, the best first. Raises `SearchFailed`."""
        ...
