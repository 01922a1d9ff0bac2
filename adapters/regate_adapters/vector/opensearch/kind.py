"""OpenSearch and Elasticsearch as two kinds of vector engine. Filters and layout are the same."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from regate_adapters.vector.kind import Configured
from regate_adapters.vector.marked.kind import MarkedKind, examined
from regate_adapters.vector.opensearch.settings import ElasticsearchSettings, OpenSearchSettings
from regate_orchestrator.errors import ConfigurationError

if TYPE_CHECKING:
    from regate_adapters.vector.json_server import JsonServer
    from regate_adapters.vector.marked.engine import MarkedEngine
    from regate_adapters.vector.marked.filter import Limits
    from regate_adapters.vector.marked.tree import Tree
    from regate_adapters.vector.opensearch.dialects import Dialect

S = TypeVar("S", OpenSearchSettings, ElasticsearchSettings)


class _SearchServer(MarkedKind[S]):
    """What both kinds do alike."""

    @property
    @abstractmethod
    def _dialect(self) -> Dialect:
        """Return which of the two it is."""

    def check(self, configured: Configured[S]) -> None:
        """Raise `ConfigurationError` for a half of a user name and password."""
        _headers(configured)

    async def examine(self, configured: Configured[S]) -> str:
        """Return which version answers. Raises `ConfigurationError` when none does, or another product."""
        url, dialect = configured.settings.url, self._dialect
        try:
            with examined(dialect.called, url):
                async with _server(configured, dialect) as server:
                    version = (await server.ask("GET", "/")).document["version"]
        except (KeyError, TypeError) as error:
            raise ConfigurationError(f"what answers at {url} is no {dialect.called}") from error
        if not dialect.is_distribution(version):
            raise ConfigurationError(f"what answers at {url} is no {dialect.called}")
        return f"{dialect.called} {version.get('number')} answers at {url}"

    @asynccontextmanager
    async def engine(self, configured: Configured[S]) -> AsyncIterator[MarkedEngine]:
        """Yield the engine on the server."""
        from regate_adapters.vector.opensearch.engine import OpenSearchEngine

        async with _server(configured, self._dialect) as server:
            yield OpenSearchEngine(server, self._dialect, prefix=configured.settings.index_prefix)

    @property
    def limits(self) -> Limits:
        """Return what its filters may be."""
        from regate_adapters.vector.opensearch.filter import LIMITS

        return LIMITS

    def written(self, condition: Tree) -> object:
        """Return the queries that all must match."""
        from regate_adapters.vector.opensearch.filter import rendered

        return rendered(condition)


class OpenSearch(_SearchServer[OpenSearchSettings]):
    """OpenSearch with its k-NN plugin."""

    settings = OpenSearchSettings
    title = "OpenSearch"
    server = "opensearch"

    @property
    def _dialect(self) -> Dialect:
        from regate_adapters.vector.opensearch.dialects import OPENSEARCH

        return OPENSEARCH

    def proof(self, folder: Path, url: str) -> Configured[OpenSearchSettings]:  # noqa: ARG002 — it has no files
        """Return one on the server."""
        return Configured(OpenSearchSettings(url=url, index_prefix="regate-proof", timeout_s=60), "proof")


class Elasticsearch(_SearchServer[ElasticsearchSettings]):
    """Elasticsearch."""

    settings = ElasticsearchSettings
    title = "Elasticsearch"
    server = "elasticsearch"

    @property
    def _dialect(self) -> Dialect:
        from regate_adapters.vector.opensearch.dialects import ELASTICSEARCH

        return ELASTICSEARCH

    def proof(self, folder: Path, url: str) -> Configured[ElasticsearchSettings]:  # noqa: ARG002 — as above
        """Return one on the server."""
        return Configured(ElasticsearchSettings(url=url, index_prefix="regate-proof", timeout_s=60), "proof")


def _server(configured: Configured[S], dialect: Dialect) -> JsonServer:
    from regate_adapters.vector.json_server import JsonServer

    settings = configured.settings
    return JsonServer(
        dialect.called, settings.url, headers=_headers(configured), timeout_s=settings.timeout_s
    )


def _headers(configured: Configured[S]) -> Mapping[str, str]:
    from base64 import b64encode

    settings, secrets, place = configured.settings, configured.secrets, configured.place
    if (settings.username is None) != (settings.password_env is None):
        raise ConfigurationError(f"{place}: username and password_env belong together")
    if (key := secrets.get("api_key_env")) is not None:
        if settings.username is not None:
            raise ConfigurationError(f"{place}: api_key_env and username exclude each other")
        return {"Authorization": f"ApiKey {_printable(key, configured.named('api_key_env'))}"}
    if settings.username is None:
        return {}
    credentials = f"{settings.username}:{secrets['password_env']}"
    return {"Authorization": f"Basic {b64encode(credentials.encode()).decode()}"}


def _printable(secret: str, setting: str) -> str:
    if not (secret.isascii() and secret.isprintable()):
        raise ConfigurationError(f"{setting}: holds characters that no header may have")
    return secret
