"""Brave's search API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlencode

from regate_adapters.web_search.service import SearchService, hits_in, with_sites
from regate_orchestrator.ports import SearchFailed, WebHit, WebPlace, WebQuery
from regate_orchestrator.principal import Context

_MOST: Final = 20
_MAX_QUERY: Final = 400


class BraveSearch:
    """Asks Brave."""

    def __init__(self, service: SearchService) -> None:
        self._service = service

    async def search(self, context: Context, query: WebQuery) -> Sequence[WebHit]:
        """Return the hits; see the port (`ports/web_search.py`)."""
        asked = {"q": with_sites(query)[:_MAX_QUERY], "count": str(min(query.limit, _MOST))}
        place = query.place or WebPlace()
        if place.country:
            asked["country"] = place.country
        answer = await self._service.ask(
            context,
            "GET",
            "/res/v1/web/search?" + urlencode(asked),
            headers={"X-Subscription-Token": self._service.key, **_located(place)},
        )
        found = answer.get("web", {})
        if not isinstance(found, Mapping):
            raise SearchFailed("The search provider gave no usable answer.")
        return hits_in(found.get("results"), snippet="description", limit=query.limit)


def _located(place: WebPlace) -> dict[str, str]:
    said = {
        "X-Loc-City": place.city,
        "X-Loc-State-Name": place.region,
        "X-Loc-Country": place.country,
        "X-Loc-Timezone": place.timezone,
    }
    return {name: value for name, value in said.items() if value and value.isascii() and value.isprintable()}
