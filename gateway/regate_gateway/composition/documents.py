"""What takes documents in and finds them: uploads, attachments, ingestion and retrieval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from regate_gateway.composition.decisions import Decisions
from regate_gateway.composition.stores import Stores
from regate_gateway.config.settings import Settings
from regate_orchestrator.documents.attachments import Attachments
from regate_orchestrator.documents.contexts import Contexts
from regate_orchestrator.documents.ingestion import Ingestion
from regate_orchestrator.documents.upload_parts import ChunkedUploads
from regate_orchestrator.documents.uploads import FileUploads
from regate_orchestrator.guards.checking import Guards
from regate_orchestrator.metrics import Metrics
from regate_orchestrator.ports import Fusion
from regate_orchestrator.retrieval.ranking import RankingDefaults
from regate_orchestrator.retrieval.search import Retrieval
from regate_orchestrator.values import Clock

_LOCAL_WEIGHT: Final = 0.2
"""Measured on 575 questions (docs/benchmarks.md): the vectors of the local model are means of words'
vectors and know less than the words themselves."""
_MODEL_WEIGHT: Final = 0.5


@dataclass(frozen=True, slots=True)
class Documents:
    """The parts that documents pass through."""

    files: FileUploads
    chunked_uploads: ChunkedUploads
    attachments: Attachments
    ingestion: Ingestion
    retrieval: Retrieval


def make_documents(
    settings: Settings, decisions: Decisions, stores: Stores, guards: Guards, metrics: Metrics, clock: Clock
) -> Documents:
    """Return what documents pass through."""
    state, blobs, enforcer = stores.state, stores.blobs, decisions.enforcer
    ingestion = Ingestion(
        state=state,
        blobs=blobs,
        extractor=stores.extractor,
        models=stores.models,
        vectors=stores.vectors,
        contexts=_contexts(settings, stores, metrics, clock),
        clock=clock,
        metrics=metrics,
    )
    files = FileUploads(
        enforcer=enforcer,
        files=state.files,
        orphaned_blobs=state.orphaned_blobs,
        blobs=blobs,
        most_bytes=settings.listen.max_file_bytes,
        clock=clock,
    )
    attachments = Attachments(
        enforcer=enforcer,
        state=state,
        vectors=stores.vectors,
        models=stores.models,
        file_schema=decisions.schemas["file"],
        wake=ingestion.wake,
        clock=clock,
    )
    retrieval = Retrieval(
        enforcer=enforcer,
        state=state,
        guards=guards,
        vectors=stores.vectors,
        models=stores.models,
        store_schema=decisions.schemas["store"],
        post_filtered=frozenset(
            name for name, store in settings.vector.stores.items() if store.on_inexpressible == "gate"
        ),
        defaults=_ranking(settings, stores),
        clock=clock,
        metrics=metrics,
    )
    uploads = ChunkedUploads(uploads=state.uploads, files=files, blobs=blobs, clock=clock)
    return Documents(files, uploads, attachments, ingestion, retrieval)


def _contexts(settings: Settings, stores: Stores, metrics: Metrics, clock: Clock) -> Contexts | None:
    chosen, writer = settings.ingestion.context, stores.context_writer
    if chosen is None or writer is None:
        return None
    return Contexts(writer, stores.state, most_chunks=chosen.most_chunks, clock=clock, metrics=metrics)


def _ranking(settings: Settings, stores: Stores) -> RankingDefaults:
    search = settings.vector.search
    embedding = search.embedding_weight
    if embedding is None:
        embedding = _LOCAL_WEIGHT if settings.embeddings.kind == "local" else _MODEL_WEIGHT
    text = 1 - embedding if search.text_weight is None else search.text_weight
    return RankingDefaults(search.mode, Fusion(embedding, text), settings.reranking.default, stores.rankers)
