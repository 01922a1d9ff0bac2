"""The settings of what finds passages: vector engines, embedding models, rerankers, and models that write."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from regate_adapters.settings_types import Name, Section
from regate_adapters.vector.kind import EngineSettings
from regate_adapters.vector.registry import KINDS, read_settings

Engine = Annotated[SerializeAsAny[EngineSettings], BeforeValidator(read_settings)]
"""The settings of one vector engine, of the class that its `kind` names."""


class Searching(Section):
    """How vector stores are searched where a search does not say."""

    mode: Literal["vector", "keyword", "hybrid"] = Field(
        default="hybrid",
        description="By vectors, by words, or by both. An engine that cannot search so searches by vectors.",
    )
    embedding_weight: float | None = Field(
        default=None,
        ge=0,
        description="How much the similarity of vectors counts in a hybrid search.",
        json_schema_extra={"default_text": "0.2 with `embeddings.kind: local`, else 0.5"},
    )
    text_weight: float | None = Field(
        default=None,
        ge=0,
        description="How much the words count in it.",
        json_schema_extra={"default_text": "1 less `embedding_weight`"},
    )

    @model_validator(mode="after")
    def _weighs_something(self) -> Self:
        if self.embedding_weight == 0 and self.text_weight == 0:
            raise ValueError("embedding_weight and text_weight must not both be 0")
        if self.text_weight is None and (self.embedding_weight or 0) > 1:
            raise ValueError("embedding_weight is above 1, so text_weight must be set as well")
        if self.embedding_weight is None and self.text_weight is not None:
            raise ValueError("text_weight is set, so embedding_weight must be set as well")
        return self


class Vector(Section):
    """The vector engines and which of them new vector stores use. A store stays where it was made."""

    default: Name = Field(
        default="main",
        description="The engine of new vector stores, unless `regate.store.placement` names another.",
    )
    stores: dict[Name, Engine] = Field(
        description="The engines, by name.", json_schema_extra={"default_text": "one, `main`, of kind local"}
    )
    search: Searching = Field(default_factory=Searching)
    allow_shared_stores: bool = Field(
        default=True, description="Let a `store_admin` make stores that all tenants may add to and search."
    )

    @model_validator(mode="after")
    def _default_exists(self) -> Self:
        if self.default not in self.stores:
            raise ValueError(f"default names {self.default!r}, which is not among stores")
        for name, engine in self.stores.items():
            if engine.words is not None:
                self._require_words(name, engine.words)
        return self

    def _require_words(self, name: str, words: str) -> None:
        place, other = f"stores.{name}.words", self.stores.get(words)
        if other is None:
            raise ValueError(f"{place} names {words!r}, which is not among stores")
        if not KINDS[other.kind].by_words or other.words is not None:
            raise ValueError(f"{place} names {words!r}, whose kind {other.kind} cannot search by words")
        if KINDS[self.stores[name].kind].by_words:
            raise ValueError(f"{place} is set, but kind {self.stores[name].kind} searches by words itself")


class EmbeddingModel(Section):
    """A model that makes vectors."""

    kind: Literal["local", "upstream"] = Field(
        default="local",
        description=(
            "The small model that ships with Regate, to begin with; or one of an upstream, which finds more."
        ),
    )
    upstream: Name | None = Field(
        default=None, description="The upstream to ask; required with `kind: upstream`."
    )
    model: str | None = Field(
        default=None,
        min_length=1,
        description="The upstream's embedding model; required with `kind: upstream`.",
    )
    max_tokens: int | None = Field(
        default=None,
        ge=64,
        description=(
            "Tokens that the upstream's model takes of one text; chunks are smaller then. Absent: not known."
        ),
    )

    @model_validator(mode="after")
    def _named_when_upstream(self) -> Self:
        if (self.kind == "upstream") != (self.upstream is not None and self.model is not None):
            raise ValueError("upstream and model must both be set with kind upstream, and only then")
        if self.kind == "local" and self.max_tokens is not None:
            raise ValueError("max_tokens belongs to kind upstream: the local model takes texts of any length")
        return self


class Embeddings(EmbeddingModel):
    """The model that makes the vectors of new stores, and those of earlier stores. A store is only
    ever used with its own.
    """

    also: tuple[EmbeddingModel, ...] = Field(
        default=(),
        description=(
            "Further models, for the stores that were made with them; each entry has the keys `kind`, "
            "`upstream`, `model` and `max_tokens`."
        ),
    )

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        models = [(self.kind, self.model), *((one.kind, one.model) for one in self.also)]
        if len(set(models)) != len(models):
            raise ValueError("also names a model twice")
        return self


class RerankModel(Section):
    """A model of an upstream that reads query and passage together (`POST /rerank`)."""

    upstream: Name = Field(description="The upstream to ask.")
    model: str = Field(min_length=1, description="Its model.")
    passages: int = Field(
        default=50,
        ge=1,
        le=1_000,
        description="How many of the best passages it is shown; more where a search wants more.",
    )
    timeout_s: float = Field(default=10, gt=0, description="Longest wait for its answer.")


class Reranking(Section):
    """The rerankers, by the names that `ranking_options.ranker` may have."""

    default: Name | None = Field(default=None, description="The one of a search that names none.")
    models: dict[Name, RerankModel] = Field(
        default_factory=dict,
        description="The rerankers, by name.",
        json_schema_extra={"default_text": "none"},
    )

    @model_validator(mode="after")
    def _default_exists(self) -> Self:
        if self.default is not None and self.default not in self.models:
            raise ValueError(f"default names {self.default!r}, which is not among models")
        taken = {"auto", "none"} & set(self.models)
        if taken:
            raise ValueError(f"models: {min(taken)!r} has a meaning of its own; use another name")
        return self


class RewriteModel(Section):
    """A chat model of an upstream that rewrites the queries of searches."""

    upstream: Name = Field(description="The upstream to ask. It is shown the queries.")
    model: str = Field(min_length=1, description="Its model.")
    max_tokens: int = Field(default=100, ge=16, le=1_000, description="Tokens of one query.")
    timeout_s: float = Field(default=10, gt=0, description="Longest wait for one query.")


class ContextModel(Section):
    """A chat model of an upstream that writes a short context for each chunk."""

    upstream: Name = Field(description="The upstream to ask. It is shown the tenants' documents.")
    model: str = Field(min_length=1, description="Its model.")
    max_tokens: int = Field(default=100, ge=16, le=1_000, description="Tokens of one context.")
    most_chunks: int = Field(
        default=500, ge=1, description="A file of more chunks gets no contexts, and the log says so."
    )
    timeout_s: float = Field(default=60, gt=0, description="Longest wait for one context.")


class Ingesting(Section):
    """What is done with files before they are found."""

    context: ContextModel | None = Field(
        default=None,
        description="A model that writes what chunks leave unsaid, with the keys below. Absent: none.",
    )
