"""The upstreams and the embedding models that the settings name, with their keys."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, TypeVar

from regate_adapters.backend.upstream_client import UpstreamConfig
from regate_adapters.backend.upstreams import Upstreams
from regate_adapters.embeddings.cached import CachedEmbedder
from regate_gateway.config.retrieval_settings import ContextModel, EmbeddingModel, RewriteModel
from regate_gateway.config.settings import Settings
from regate_orchestrator.documents.embedding import EmbeddingModels
from regate_orchestrator.errors import ConfigurationError
from regate_orchestrator.ports import ContextWriter, Embedder, QueryRewriter
from regate_orchestrator.retrieval.ranking import Ranker

if TYPE_CHECKING:
    from regate_adapters.chat_endpoint import ChatEndpoint

Chat = TypeVar("Chat", bound="ChatEndpoint")


async def open_upstreams(stack: AsyncExitStack, settings: Settings) -> Upstreams:
    """Return the upstreams, opened on the stack and asked for their models from now on."""
    upstreams = await stack.enter_async_context(Upstreams(upstream_configs(settings)))
    upstreams.discover()
    return upstreams


def upstream_configs(settings: Settings) -> list[UpstreamConfig]:
    """Return the backends, with their keys. Raises `ConfigurationError` when the variable of one is
    not set.
    """
    return [
        UpstreamConfig(
            name=upstream.name,
            base_url=upstream.base_url,
            api_key=_api_key(upstream.name, upstream.api_key_env),
            models=upstream.models,
            timeout_s=upstream.timeout_s,
            capabilities=upstream.capabilities,
            aliases=upstream.aliases,
            by_policy=upstream.by_policy,
            fallback_for=upstream.fallback_for,
            show_errors=upstream.show_errors,
        )
        for upstream in settings.upstreams
    ]


def _api_key(upstream: str, variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise ConfigurationError(
            f"upstreams.{upstream}.api_key_env: the environment variable {variable} is not set"
        )
    return key


async def open_models(stack: AsyncExitStack, settings: Settings) -> EmbeddingModels:
    """Return all embedding models, opened on the stack. Raises `ConfigurationError`."""
    chosen = (settings.embeddings, *settings.embeddings.also)
    embedders = [await open_embedder(stack, settings, one) for one in chosen]
    context = settings.ingestion.context
    before = 0 if context is None else context.max_tokens  # what comes before each chunk is embedded with it
    limits = {
        embedder.name: max(1, one.max_tokens - before)
        for embedder, one in zip(embedders, chosen, strict=True)
        if one.max_tokens is not None
    }
    return EmbeddingModels(*embedders, limits=limits)


async def open_embedder(stack: AsyncExitStack, settings: Settings, chosen: EmbeddingModel) -> Embedder:
    """Return the model that makes vectors, opened on the stack. Raises `ConfigurationError`."""
    if chosen.kind == "upstream":
        from regate_adapters.embeddings.upstream import UpstreamEmbedder

        config = _config_of(settings, chosen.upstream)
        assert chosen.model is not None  # noqa: S101 — INVARIANT: settings demand it with kind upstream
        embedder = UpstreamEmbedder(
            config.base_url, chosen.model, api_key=config.api_key, most_tokens=chosen.max_tokens
        )
        return CachedEmbedder(await stack.enter_async_context(embedder))
    from regate_adapters.embeddings.wordllama import WordLlamaEmbedder

    return CachedEmbedder(WordLlamaEmbedder())


async def open_rankers(stack: AsyncExitStack, settings: Settings) -> dict[str, Ranker]:
    """Return the rerankers by name, opened on the stack. Raises `ConfigurationError`."""
    from regate_adapters.reranking.upstream import UpstreamReranker

    upstreams = {one.name: one for one in upstream_configs(settings)}
    rankers = {}
    for name, chosen in settings.reranking.models.items():
        config = upstreams[chosen.upstream]
        opening = UpstreamReranker(
            config.base_url, chosen.model, api_key=config.api_key, deadline_s=chosen.timeout_s
        )
        rankers[name] = Ranker(await stack.enter_async_context(opening), chosen.passages)
    return rankers


async def open_query_rewriter(stack: AsyncExitStack, settings: Settings) -> QueryRewriter | None:
    """Return the model that rewrites queries, opened on the stack; None where none is set. Raises
    `ConfigurationError`.
    """
    from regate_adapters.rewriting.upstream import UpstreamQueryRewriter

    chosen = settings.query_rewriting
    if chosen is None:
        return None
    return await stack.enter_async_context(_chat(UpstreamQueryRewriter, settings, chosen))


async def open_context_writer(stack: AsyncExitStack, settings: Settings) -> ContextWriter | None:
    """Return the model that writes contexts, opened on the stack; None where none is set. Raises
    `ConfigurationError`.
    """
    from regate_adapters.contexts.upstream import UpstreamContextWriter

    chosen = settings.ingestion.context
    if chosen is None:
        return None
    return await stack.enter_async_context(_chat(UpstreamContextWriter, settings, chosen))


def _chat(endpoint: type[Chat], settings: Settings, chosen: RewriteModel | ContextModel) -> Chat:
    config = _config_of(settings, chosen.upstream)
    return endpoint(
        config.base_url,
        chosen.model,
        upstream=config.name,
        max_tokens=chosen.max_tokens,
        api_key=config.api_key,
        deadline_s=chosen.timeout_s,
    )


def _config_of(settings: Settings, upstream: str | None) -> UpstreamConfig:
    """Return the backend of this name, which the settings are known to have."""
    (config,) = (one for one in upstream_configs(settings) if one.name == upstream)
    return config
