"""What reaches the web for `web_search`: the provider that the settings name, over the guard of egress. Its
client is made at the first search.
"""

from __future__ import annotations

from collections.abc import Sequence

from regate_adapters.egress.guard import EgressGuard
from regate_gateway.config.secret import header_secret_from_environment
from regate_gateway.config.tool_settings import WebSearch
from regate_orchestrator.documents.file_text import FileReader
from regate_orchestrator.ports import Fetcher, SearchProvider, WebHit, WebQuery
from regate_orchestrator.principal import Context
from regate_orchestrator.responses.tools.kinds.web_search_runner import Web


def make_web(
    settings: WebSearch | None, guard: EgressGuard, fetcher: Fetcher, reader: FileReader
) -> Web | None:
    """Return what reaches the web; None where nothing is configured. Raises `ConfigurationError` for a key
    that is not there.
    """
    if settings is None:
        return None
    key = ""
    if settings.api_key_env is not None:
        key = header_secret_from_environment(
            settings.api_key_env, setting="tools.web_search.api_key_env"
        ).reveal()
    return Web(LazySearch(settings, guard, key), fetcher, reader, settings.max_results)


class LazySearch:
    """Searches with a client that is made at the first search."""

    def __init__(self, settings: WebSearch, guard: EgressGuard, key: str) -> None:
        self._settings = settings
        self._guard = guard
        self._key = key
        self._provider: SearchProvider | None = None

    async def search(self, context: Context, query: WebQuery) -> Sequence[WebHit]:
        """Return the hits; see the port."""
        if self._provider is None:
            self._provider = self._made()
        return await self._provider.search(context, query)

    def _made(self) -> SearchProvider:
        from regate_adapters.egress.services import GuardedServiceClient
        from regate_adapters.web_search.brave import BraveSearch
        from regate_adapters.web_search.searxng import SearxngSearch
        from regate_adapters.web_search.service import SearchService
        from regate_adapters.web_search.tavily import TavilySearch

        chosen = self._settings
        client = GuardedServiceClient(self._guard)
        service = SearchService(client, chosen.base_url, self._key, chosen.deadline_s)
        kinds: dict[str, type[SearxngSearch | BraveSearch | TavilySearch]] = {
            "searxng": SearxngSearch,
            "brave": BraveSearch,
            "tavily": TavilySearch,
        }
        return kinds[chosen.kind](service)
