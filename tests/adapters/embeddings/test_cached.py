"""The cache before an embedder."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from regate_adapters.embeddings.cached import CachedEmbedder
from regate_adapters.embeddings.wordllama import WordLlamaEmbedder
from regate_orchestrator.errors import EmbeddingsUnavailable
from regate_orchestrator.ports import Vector


class Noting(WordLlamaEmbedder):
    """The local model, which notes what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, str]] = []
        self.broken = False

    async def embed(self, texts: Sequence[str], *, tenant: str) -> list[Vector]:
        self.asked += [(tenant, text) for text in texts]
        if self.broken:
            raise EmbeddingsUnavailable("down")
        return await super().embed(texts, tenant=tenant)


async def test_a_text_is_embedded_once_and_answered_alike() -> None:
    inner = Noting()
    cached = CachedEmbedder(inner)

    first = await cached.embed(["a", "b", "a"], tenant="acme")
    second = await cached.embed(["b", "a", "c"], tenant="acme")

    assert inner.asked == [("acme", "a"), ("acme", "b"), ("acme", "c")]
    assert [first[1], first[0]] == second[:2]
    assert await inner.embed(["a"], tenant="acme") == [first[0]]


async def test_tenants_share_nothing() -> None:
    inner = Noting()
    cached = CachedEmbedder(inner)

    for tenant in ("acme", "globex", "acme"):
        await cached.embed(["the same text"], tenant=tenant)

    assert inner.asked == [("acme", "the same text"), ("globex", "the same text")]


async def test_what_was_used_longest_ago_goes_first() -> None:
    inner = Noting()
    cached = CachedEmbedder(inner, entries=2)

    for text in ("a", "b", "a", "c", "a", "b"):
        await cached.embed([text], tenant="acme")

    assert [text for _, text in inner.asked] == ["a", "b", "c", "b"]


@pytest.mark.parametrize("bound", [{"entries": 0}, {"most_bytes": 100}])
async def test_a_cache_without_room_keeps_nothing(bound: dict[str, int]) -> None:
    inner = Noting()
    cached = CachedEmbedder(inner, **bound)

    for _ in range(2):
        await cached.embed(["a"], tenant="acme")

    assert [text for _, text in inner.asked] == ["a", "a"]


async def test_the_bytes_kept_are_bounded() -> None:
    inner = Noting()
    cached = CachedEmbedder(inner, most_bytes=10 * (256 + 8 * 256))

    await cached.embed([str(number) for number in range(50)], tenant="acme")
    inner.asked.clear()
    await cached.embed([str(number) for number in range(40, 50)], tenant="acme")

    assert inner.asked == []
    assert len(cached._kept) == 10


async def test_a_failure_is_passed_on_and_not_kept() -> None:
    inner = Noting()
    cached = CachedEmbedder(inner)
    inner.broken = True
    with pytest.raises(EmbeddingsUnavailable):
        await cached.embed(["a"], tenant="acme")

    inner.broken = False
    vectors = await cached.embed(["a"], tenant="acme")

    assert len(vectors) == 1
    assert (cached.name, await cached.dimensions()) == (inner.name, 256)
