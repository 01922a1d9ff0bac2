"""What requests to `/v1/vector_stores` may hold."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, Field, Tag, WithJsonSchema, model_validator

from regate_gateway.http.misfits import misfit
from regate_gateway.http.models import TEXT_OR_LIST, Id, Metadata, RequestModel
from regate_gateway.routes.models import ListQuery
from regate_orchestrator.documents.chunking import Chunking
from regate_orchestrator.ports import Fusion
from regate_orchestrator.retrieval.ranking import Ranking
from regate_orchestrator.retrieval.search import LONGEST_QUERY
from regate_orchestrator.rows import Sections

_MAX_IN_A_BATCH: Final = 2_000


class AttachmentsQuery(ListQuery):
    """Which files of a store, or of a batch, are listed."""

    filter: Literal["in_progress", "completed", "failed", "cancelled", ""] = Field(
        "", description="Only files whose ingestion is as far as that."
    )


class ContentQuery(RequestModel):
    """Which part of a file's text is wanted."""

    limit: int | None = Field(
        None, ge=1, le=1_000, description="Pieces on a page. Without it, all are on one."
    )
    page: str | None = Field(None, max_length=200, description="The `next_page` of the page before.")


# ---------------------------------------------------------------- stores


class StoreExpiry(RequestModel):
    """When a store expires."""

    anchor: Literal["last_active_at"] = Field(description="What the time is counted from.")
    days: int = Field(ge=1, le=365, description="Days without use.")


class StaticChunking(RequestModel):
    """Pieces of one size."""

    max_chunk_size_tokens: int = Field(800, ge=100, le=4096, description="The size of a piece.")
    chunk_overlap_tokens: int = Field(
        400, ge=0, le=4096, description="What two pieces share, at most half of the size."
    )

    @model_validator(mode="after")
    def _require_half(self) -> Self:
        if self.chunk_overlap_tokens * 2 > self.max_chunk_size_tokens:
            text = "'{place}' must be at most half of 'max_chunk_size_tokens'."
            raise misfit(text, member="chunk_overlap_tokens")
        return self


class SectionChunking(RequestModel):
    """Pieces that are sections or pages."""

    max_chunk_size_tokens: int = Field(
        800, ge=100, le=4096, description="What is longer is split into pieces of this size."
    )


class ChunkingStrategy(RequestModel):
    """How files are split (OpenAI, "chunking_strategy"). `heading` and `page` are extensions."""

    type: Literal["auto", "static", "heading", "page"] = Field(
        "auto",
        description=(
            "`auto` leaves it to the gateway; `heading` makes a piece of what stands below each heading, "
            "`page` of each page or slide."
        ),
    )
    static: StaticChunking | None = Field(None, description="Needed with the type `static`.")
    heading: SectionChunking | None = Field(None, description="Needed with the type `heading`.")
    page: SectionChunking | None = Field(None, description="Needed with the type `page`.")

    @model_validator(mode="after")
    def _require_sizes(self) -> Self:
        if self.type != "auto" and getattr(self, self.type) is None:
            text = "Missing required parameter: '{place}'."
            raise misfit(text, code="missing_required_parameter", member=self.type)
        return self

    @property
    def sections(self) -> Sections | None:
        """Return the sections of which each is a piece; None where only sizes count."""
        if self.type == "heading" and self.heading is not None:
            return Sections("heading", self.heading.max_chunk_size_tokens)
        if self.type == "page" and self.page is not None:
            return Sections("page", self.page.max_chunk_size_tokens)
        return None

    @property
    def chunking(self) -> Chunking | None:
        """Return the sizes, or None where they are left to us."""
        if self.type != "static" or self.static is None:
            return None
        return Chunking(self.static.max_chunk_size_tokens, self.static.chunk_overlap_tokens)


class VectorStoreUpdate(RequestModel):
    """Changes of a store. What is not named stays."""

    nullable: ClassVar = frozenset({"expires_after"})

    name: str | None = Field(None, max_length=256, description="What people call it.")
    expires_after: StoreExpiry | None = Field(None, description="`null` takes it off.")
    metadata: Metadata | None = None

    @property
    def expiry(self) -> int | Literal["never"] | None:
        """Return after how many days without use the store expires: `never` for null, which takes an expiry
        off, and None when nothing is said.
        """
        if self.expires_after is not None:
            return self.expires_after.days
        return "never" if "expires_after" in self.model_fields_set else None


class VectorStoreRequest(RequestModel):
    """A new store."""

    name: str = Field("", max_length=256, description="What people call it.")
    description: str | None = Field(None, max_length=512, description="What it is for.")
    file_ids: list[Id] = Field(default_factory=list, max_length=500, description="Files to begin with.")
    chunking_strategy: ChunkingStrategy | None = None
    expires_after: StoreExpiry | None = None
    metadata: Metadata = Field(default_factory=dict)


# ---------------------------------------------------------------- files in stores

Attributes = Annotated[
    dict[str, Any],
    Field(
        description="What filters and policies see of the file. Keys with `regate.` ask for sharing.",
        json_schema_extra={
            "maxProperties": 16,
            "propertyNames": {"minLength": 1, "maxLength": 64},
            "additionalProperties": {
                "oneOf": [{"type": "string", "maxLength": 512}, {"type": "number"}, {"type": "boolean"}]
            },
        },
    ),
]
"""Attributes of a file, whose values `split_attributes` judges."""


class AttachRequest(RequestModel):
    """A file that is wanted in a store."""

    file_id: Id = Field(description="The file.")
    attributes: Attributes = Field(default_factory=dict)
    chunking_strategy: ChunkingStrategy | None = None


class AttributesUpdate(RequestModel):
    """Other attributes of a file in a store, in place of all that it has."""

    nullable: ClassVar = frozenset({"attributes"})

    attributes: Attributes | None


class FileBatchRequest(RequestModel):
    """Many files that are wanted in a store: `file_ids`, which share attributes and splitting, or `files`,
    which have their own.
    """

    file_ids: list[Id] | None = Field(
        None, max_length=_MAX_IN_A_BATCH, description="The files.", json_schema_extra={"minItems": 1}
    )
    files: list[AttachRequest] | None = Field(
        None,
        max_length=_MAX_IN_A_BATCH,
        description="The files, each with attributes of its own.",
        json_schema_extra={"minItems": 1},
    )
    attributes: Attributes = Field(default_factory=dict)
    chunking_strategy: ChunkingStrategy | None = None

    @model_validator(mode="after")
    def _require_files(self) -> Self:
        if self.file_ids is not None and self.files is not None:
            text, code = "'file_ids' and 'files' are mutually exclusive.", "mutually_exclusive_parameters"
            raise misfit(text, code=code, member="files")
        if self.file_ids is None and self.files is None:
            text = "Missing required parameter: '{place}'."
            raise misfit(text, code="missing_required_parameter", member="file_ids")
        if not (self.file_ids or self.files):
            member = "file_ids" if self.files is None else "files"
            raise misfit("A batch must have at least one file.", member=member)
        return self


# ---------------------------------------------------------------- search

Filter = Annotated[
    Any,
    WithJsonSchema(
        {
            "type": ["object", "null"],
            "description": (
                "`{type: eq|ne|gt|gte|lt|lte|in|nin, key, value}`, or `{type: and|or, filters: […]}`, at "
                "most 8 deep, of 200 parts, with 100 values in a list and 1,000 in all of them."
            ),
            "required": ["type"],
            "properties": {
                "type": {
                    "type": "string",
                    "enum": ["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "and", "or"],
                }
            },
        }
    ),
]
"""A client's filter, which `filters/client.py` reads."""


class HybridSearch(RequestModel):
    """How much each of the two searches of a hybrid one counts."""

    embedding_weight: float = Field(ge=0.0, le=1e6, description="The weight of the similarity of vectors.")
    text_weight: float = Field(ge=0.0, le=1e6, description="The weight of the words.")
    fusion: Literal["weighted", "reciprocal_rank"] = Field(
        "weighted", description="Whether scores are weighed, or ranks. An extension."
    )

    @model_validator(mode="after")
    def _weighs_something(self) -> Self:
        if not (self.embedding_weight or self.text_weight):
            raise misfit("'{place}' must have a weight above 0.")
        return self

    @property
    def as_fusion(self) -> Fusion:
        """Return it as the core knows it."""
        by: Literal["score", "rank"] = "score" if self.fusion == "weighted" else "rank"
        return Fusion(self.embedding_weight, self.text_weight, by)


class RankingOptions(RequestModel):
    """How what is found is ranked."""

    ranker: Annotated[str, Field(max_length=64)] = Field(
        "auto",
        description="A reranker of the deployment; `none` for none, `auto` for the deployment's default.",
    )
    score_threshold: float = Field(0.0, ge=0.0, le=1.0, description="What scores less is left out.")
    hybrid_search: HybridSearch | None = Field(None, description="Search by vectors and by words.")


_OF_DEPLOYMENT: Final = ("auto", "default-2024-11-15", "default_2024_08_21")
_NO_OPTIONS: Final = RankingOptions.read({}, path="ranking_options")


class Ranks(RequestModel):
    """What every search may say of its ranking."""

    ranking_options: RankingOptions | None = None
    search_mode: Literal["vector", "keyword", "hybrid"] | None = Field(
        None,
        description="By vectors, by words or by both; without it, as the deployment does. An extension.",
    )

    @model_validator(mode="after")
    def _has_one_mode(self) -> Self:
        options = self.options
        if options.hybrid_search and self.search_mode not in (None, "hybrid"):
            text = "'{place}' is not for a search with 'hybrid_search'. Leave one of them out."
            raise misfit(text, member="search_mode")
        return self

    @property
    def options(self) -> RankingOptions:
        """Return the options, of which each has a value."""
        return self.ranking_options or _NO_OPTIONS

    @property
    def ranking(self) -> Ranking:
        """Return it as the core knows it."""
        options = self.options
        ranker = None if options.ranker in _OF_DEPLOYMENT else options.ranker
        if options.hybrid_search is None:
            return Ranking(options.score_threshold, self.search_mode, ranker=ranker)
        return Ranking(options.score_threshold, "hybrid", options.hybrid_search.as_fusion, ranker)


def _require_queries(query: str | list[str]) -> str | list[str]:
    if not query or not all(one.strip() for one in ([query] if isinstance(query, str) else query)):
        raise misfit("'{place}' must be a string, or a list of strings, that is not empty.")
    if not isinstance(query, str) and sum(map(len, query)) > LONGEST_QUERY:
        raise misfit(f"The texts of '{{place}}' may have {LONGEST_QUERY:,} characters at most, all together.")
    return query


Queries = Annotated[
    Annotated[str, Tag("(text)"), Field(max_length=LONGEST_QUERY, json_schema_extra={"minLength": 1})]
    | Annotated[
        list[Annotated[str, Field(max_length=LONGEST_QUERY, json_schema_extra={"minLength": 1})]],
        Tag("(list)"),
        Field(max_length=16, json_schema_extra={"minItems": 1}),
    ],
    TEXT_OR_LIST,
    AfterValidator(_require_queries),
]


class SearchRequest(Ranks):
    """A search in a store."""

    query: Queries = Field(description="One query, or several at once.")
    rewrite_query: bool = Field(
        False, description="Rewrite the queries for the search, by a model of the deployment or by a rule."
    )
    max_num_results: int = Field(10, ge=1, le=50, description="How many passages are wanted.")
    filters: Filter = None

    @property
    def queries(self) -> list[str]:
        """Return the queries, of which there is at least one."""
        return [self.query] if isinstance(self.query, str) else self.query
