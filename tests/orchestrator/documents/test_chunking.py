"""How files are split where the client does not say, and that no chunk is larger than the embedding
model takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from regate_orchestrator.documents.chunking import Chunking, default_chunking
from regate_orchestrator.documents.embedding import EmbeddingModels
from regate_orchestrator.errors import InvalidRequest

if TYPE_CHECKING:
    from regate_orchestrator.ports import Embedder
    from regate_orchestrator.rows import StoreRow


class Model:
    """An embedding model that has a name and nothing else."""

    def __init__(self, name: str) -> None:
        self.name = name


class Store:
    """A store that was made with a model, and has nothing else."""

    id = "vs_1"

    def __init__(self, embedder: str) -> None:
        self.embedder = embedder


def models(**limits: int) -> EmbeddingModels:
    return EmbeddingModels(cast("Embedder", Model("small")), cast("Embedder", Model("large")), limits=limits)


def store(embedder: str) -> StoreRow:
    return cast("StoreRow", Store(embedder))


@pytest.mark.parametrize(
    ("limit", "size", "overlap"),
    [(None, 800, 400), (8_192, 800, 400), (1_067, 800, 400), (512, 384, 192), (256, 192, 96), (64, 48, 24)],
)
def test_default_leaves_room_below_what_the_model_takes(limit: int | None, size: int, overlap: int) -> None:
    assert default_chunking(limit) == Chunking(size, overlap)


def test_each_store_is_split_for_its_own_model() -> None:
    found = [models(small=512).chunking(store(name)) for name in ("small", "large")]
    assert found == [Chunking(384, 192), Chunking(800, 400)]


@pytest.mark.parametrize("size", [513, 800, 4_096])
def test_chunks_that_the_model_does_not_take_are_refused_with_its_limit(size: int) -> None:
    with pytest.raises(InvalidRequest, match="at most 512") as raised:
        models(small=512).require_chunks_that_fit(store("small"), [384, size])
    assert raised.value.param == "chunking_strategy"


@pytest.mark.parametrize(("name", "size"), [("small", 512), ("small", 100), ("large", 4_096)])
def test_chunks_that_fit_are_taken(name: str, size: int) -> None:
    models(small=512).require_chunks_that_fit(store(name), [size])
