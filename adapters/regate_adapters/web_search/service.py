"""What the providers share: asking a service for JSON, and reading hits out of it."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import orjson

from regate_orchestrator.errors import CallerError
from regate_orchestrator.ports import Outgoing, SearchFailed, ServiceClient, WebHit, WebQuery
from regate_orchestrator.principal import Context

_MAX_BYTES: Final = 4 * 1024 * 1024
_MAX_SITES: Final = 10
_TAG: Final = re.compile(r"</?[a-zA-Z][^<>]{0,200}>")


@dataclass(frozen=True, slots=True)
class SearchService:
    """The service of a provider: where it is, its key, and how long it may take."""

    client: ServiceClient
    base_url: str
    key: str = field(default="", repr=False)
    deadline_s: float = 10.0

    async def ask(
        self,
        context: Context,
        method: Literal["GET", "POST"],
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Mapping[str, Any]:
        """Return the JSON object that the service answered. Raises `SearchFailed`."""
        sent = dict(headers or {}) | ({} if body is None else {"Content-Type": "application/json"})
        request = Outgoing(
            method, f"{self.base_url}{target}", sent, None if body is None else orjson.dumps(body)
        )
        try:
            found = await self.client.send(
                context, request, "search", limit_bytes=_MAX_BYTES, deadline_s=self.deadline_s
            )
            answer = orjson.loads(found.data)
        except (CallerError, ValueError) as error:
            raise SearchFailed("The search provider gave no usable answer.") from error
        if not isinstance(answer, Mapping):
            raise SearchFailed("The search provider gave no usable answer.")
        return answer


def hits_in(listed: object, *, snippet: str, limit: int) -> Sequence[WebHit]:
    """Return the results that are whole, of a provider's list. `snippet` is what it calls the text."""
    if not isinstance(listed, list):
        return ()
    hits = [
        WebHit(url, _plain(one.get("title")), _plain(one.get(snippet)))
        for one in listed
        if isinstance(one, Mapping) and isinstance(url := one.get("url"), str)
    ]
    return hits[:limit]


def with_sites(query: WebQuery) -> str:
    """Return the query with its domains in the words that most engines know; with too many, without them."""
    if not query.domains or len(query.domains) > _MAX_SITES:
        return query.text
    return f"{query.text} ({' OR '.join(f'site:{domain}' for domain in query.domains)})"


def _plain(value: object) -> str:
    return html.unescape(_TAG.sub("", value)) if isinstance(value, str) else ""
