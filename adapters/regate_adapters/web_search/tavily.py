"""Tavily's search API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from regate_adapters.web_search.service import SearchService, hits_in
from regate_orchestrator.ports import WebHit, WebQuery
from regate_orchestrator.principal import Context

_MOST: Final = 20
_MAX_DOMAINS: Final = 300


class TavilySearch:
    """Asks Tavily. It knows countries by their English names alone, so where the user is stays here."""

    def __init__(self, service: SearchService) -> None:
        self._service = service

    async def search(self, context: Context, query: WebQuery) -> Sequence[WebHit]:
        """Return the hits; see the port (`ports/web_search.py`)."""
        answer = await self._service.ask(
            context,
            "POST",
            "/search",
            headers={"Authorization": f"Bearer {self._service.key}"},
            body={
                "query": query.text,
                "max_results": min(query.limit, _MOST),
                "include_domains": list(query.domains[:_MAX_DOMAINS]),
            },
        )
        return hits_in(answer.get("results"), snippet="content", limit=query.limit)
