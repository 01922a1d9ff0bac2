"""Weaviate as a kind of vector engine."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from regate_adapters.vector.kind import Configured
from regate_adapters.vector.marked.kind import MarkedKind, examined
from regate_adapters.vector.weaviate.settings import WeaviateSettings
from regate_orchestrator.errors import ConfigurationError

if TYPE_CHECKING:
    from regate_adapters.vector.json_server import JsonServer
    from regate_adapters.vector.marked.engine import MarkedEngine
    from regate_adapters.vector.marked.filter import Limits
    from regate_adapters.vector.marked.tree import Tree

_CALLED: Final = "Weaviate"
_OLDEST: Final = (1, 33)
"""The first that knows `ContainsNone`."""


class Weaviate(MarkedKind[WeaviateSettings]):
    """A Weaviate server, asked over its REST and GraphQL interfaces."""

    settings = WeaviateSettings
    title = "a Weaviate server"
    server = "weaviate"

    def check(self, configured: Configured[WeaviateSettings]) -> None:
        """Raise `ConfigurationError` for a key that no header may hold."""
        _server(configured)

    async def examine(self, configured: Configured[WeaviateSettings]) -> str:
        """Return which version answers. Raises `ConfigurationError` when none does, or too old a one."""
        url = configured.settings.url
        try:
            with examined(_CALLED, url):
                async with _server(configured) as server:
                    version = str((await server.ask("GET", "/v1/meta")).document["version"])
        except (KeyError, TypeError) as error:
            raise ConfigurationError(f"what answers at {url} is no {_CALLED}") from error
        numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
        if numbers < _OLDEST:
            raise ConfigurationError(f"{_CALLED} {version} at {url} is too old: 1.33 or later is needed")
        return f"{_CALLED} {version} answers at {url}"

    @asynccontextmanager
    async def engine(self, configured: Configured[WeaviateSettings]) -> AsyncIterator[MarkedEngine]:
        """Yield the engine on the server."""
        from regate_adapters.vector.weaviate.engine import WeaviateEngine

        async with _server(configured) as server:
            yield WeaviateEngine(server, prefix=configured.settings.collections)

    @property
    def limits(self) -> Limits:
        """Return what its filters may be."""
        from regate_adapters.vector.weaviate.filter import LIMITS

        return LIMITS

    def written(self, condition: Tree) -> object:
        """Return filters as Weaviate's REST API has them."""
        from regate_adapters.vector.weaviate.filter import rendered

        return rendered(condition)

    def proof(self, folder: Path, url: str) -> Configured[WeaviateSettings]:  # noqa: ARG002 — it has no files
        """Return one on the server."""
        return Configured(WeaviateSettings(url=url, collections="RegateProof", timeout_s=60), "proof")


def _server(configured: Configured[WeaviateSettings]) -> JsonServer:
    from regate_adapters.vector.json_server import JsonServer

    settings = configured.settings
    key = configured.secrets.get("api_key_env")
    if key is not None and not (key.isascii() and key.isprintable()):
        raise ConfigurationError(
            f"{configured.named('api_key_env')}: holds characters that no header may have"
        )
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return JsonServer(_CALLED, settings.url, headers=headers, timeout_s=settings.timeout_s)
