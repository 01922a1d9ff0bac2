"""SearXNG: an engine that an operator runs. It is asked for JSON, which its `search.formats` must have."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

from regate_adapters.web_search.service import SearchService, hits_in, with_sites
from regate_orchestrator.ports import WebHit, WebQuery
from regate_orchestrator.principal import Context


class SearxngSearch:
    """Asks a SearXNG. It knows no places, so where the user is stays here."""

    def __init__(self, service: SearchService) -> None:
        self._service = service

    async def search(self, context: Context, query: WebQuery) -> Sequence[WebHit]:
        """Return the hits; see the port (`ports/web_search.py`)."""
        key = self._service.key
        answer = await self._service.ask(
            context,
            "GET",
            "/search?" + urlencode({"q": with_sites(query), "format": "json"}),
            headers={"Authorization": f"Bearer {key}"} if key else None,
        )
        return hits_in(answer.get("results"), snippet="content", limit=query.limit)
