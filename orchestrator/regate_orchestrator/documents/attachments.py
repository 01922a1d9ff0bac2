"""Attachments: the decisions that let files into a vector store and stamp them, and those that stamp them
anew (I5).

Nothing is read here: what is attached is in progress, and `ingestion.py`, the counterpart, makes its chunks.
A file whose attributes change is decided again as it was at first. Its chunks are then stored once more under
another generation, with the new stamp, before the attachment names that generation: so they are found under
the old stamp or under the new one at every moment, and never under both or neither (ADR 0008).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from regate_orchestrator.authz.decisions import Context, Deny, Point, Question
from regate_orchestrator.authz.document_decisions import Document
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.documents.attributes import SplitAttributes
from regate_orchestrator.documents.chunking import Chunking
from regate_orchestrator.documents.embedding import EmbeddingModels
from regate_orchestrator.documents.generations import mint_generation
from regate_orchestrator.errors import (
    InvalidRequest,
    NotFound,
    NotPermitted,
    PolicyUnavailable,
    VectorStoreUnavailable,
)
from regate_orchestrator.filters.expression import Scalar
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import StateStore, VectorStore
from regate_orchestrator.rows import Attachment, FileBatch, FileRow, OrphanedChunks, Sections, StoreRow
from regate_orchestrator.values import Clock, FileId, Json, JsonObject, StoreId, wall_clock

_log = logging.getLogger("regate.attaching")
_TRIES: Final = 4
_RESTAMP_SECONDS: Final = 600
"""How long the chunks of a new stamp may lie unused; no engine takes longer to store them."""

_ABSENT: Final[JsonObject] = {"id": ""}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file that a client wants in a store. `sent` are the attributes as sent; `param` names the file in the
    request.

    `chunking` None: as fits the store's embedding model. `sections`: where each of these is to be a chunk.
    """

    file_id: FileId
    sent: Mapping[str, Scalar]
    attributes: SplitAttributes
    chunking: Chunking | None
    param: str
    sections: Sections | None = None


class Attachments:
    """Attaches files to vector stores, and changes the attributes of those attached. `wake` is called
    when there is work for ingestion.
    """

    def __init__(
        self,
        *,
        enforcer: Enforcer,
        state: StateStore,
        vectors: VectorStore,
        models: EmbeddingModels,
        file_schema: RowSchema,
        wake: Callable[[], None],
        clock: Clock = wall_clock,
    ) -> None:
        self._enforcer = enforcer
        self._state = state
        self._vectors = vectors
        self._models = models
        self._file_schema = file_schema
        self._wake = wake
        self._clock = clock

    async def decide(
        self, context: Context, store: StoreRow, store_view: JsonObject, wanted: Sequence[Wanted]
    ) -> list[Attachment]:
        """Return the attachments to be, in progress and not stored yet. The caller has decided that the store
        may be added to.

        Raises `NotFound` for the first file that is absent, or may not be read, and `NotPermitted` with the
        policy's reasons for the first that the ingest decision denies. Raises `InvalidRequest` for one that
        is in progress in the store, for chunks larger than the store's embedding model takes, and when that
        is no longer configured.
        """
        self._models.require([store])
        chunkings = [one.chunking or self._models.chunking(store) for one in wanted]
        sizes = [one.max_tokens for one in chunkings]
        sizes += [one.sections.max_tokens for one in wanted if one.sections is not None]
        self._models.require_chunks_that_fit(store, sizes)
        rows = await self._state.files.named(context.principal, [one.file_id for one in wanted])
        documents = [
            Document(one.file_id, self._document(rows.get(one.file_id), one.attributes)) for one in wanted
        ]
        decided = await self._enforcer.ingestible(context, store_view, documents)
        for one, outcome in zip(wanted, decided, strict=True):
            # An absent file was decided about as well, so that it takes the same work as one that may not be
            # read (I7).
            if one.file_id not in rows or not outcome.readable:
                raise NotFound.of("file", one.file_id, param=one.param)
        for one, outcome in zip(wanted, decided, strict=True):
            if isinstance(outcome.decision, Deny):
                raise _refused(outcome.decision, one.file_id)
        running = await self._state.attachments.in_progress_among(
            context.principal, store.id, [one.file_id for one in wanted]
        )
        for one in wanted:
            if one.file_id in running:
                message = f"The file {one.file_id} is being processed in this store; wait until it is done."
                raise InvalidRequest(message, param=one.param)
        now = int(self._clock())
        return [
            Attachment(
                store_id=store.id,
                file_id=one.file_id,
                created_at=now,
                status="in_progress",
                stamp=outcome.stamp,
                requested=dict(one.sent),
                attributes=dict(one.attributes.own),
                max_chunk_tokens=chunking.max_tokens,
                overlap_tokens=chunking.overlap_tokens,
                policy_revision=outcome.decision.revision,
                principal=context.principal.as_input(),
                sections=one.sections,
            )
            for one, outcome, chunking in zip(wanted, decided, chunkings, strict=True)
        ]

    async def put(
        self, context: Context, rows: Sequence[Attachment], *, batch: FileBatch | None = None
    ) -> None:
        """Store the attachments and their batch, all or none, and have their chunks made. Raises
        `NotFound` for what has gone meanwhile.
        """
        if not rows and batch is None:
            return
        marked = rows if batch is None else [replace(row, batch_id=batch.id) for row in rows]
        await self._state.attachments.put(marked, batch=batch)
        for store in {row.store_id for row in rows}:
            await self._state.vector_stores.touch(context.principal, store, at=int(self._clock()))
        self._wake()

    async def amend(
        self,
        context: Context,
        store_view: JsonObject,
        present: Attachment,
        *,
        sent: Mapping[str, Scalar],
        attributes: SplitAttributes,
    ) -> Attachment:
        """Return the attachment with these attributes in place of all it had, decided and stamped anew. When
        this returns they are in force.

        Raises `NotPermitted` with the policy's reasons when the ingest decision denies, and `NotFound` when
        it has gone meanwhile.
        """
        for _ in range(_TRIES):
            row = await self._restamped(context, store_view, present, sent=sent, attributes=attributes)
            if row.status == "completed":
                amended = await self._swap(row, expected=present)
            else:  # what is being written has the old stamp: it is written again
                amended = await self._keep(
                    replace(row, generation="") if row.status == "in_progress" else row, expected=present
                )
            if amended is not None:
                await self._state.vector_stores.touch(
                    context.principal, present.store_id, at=int(self._clock())
                )
                return amended
            found = await self._state.attachments.get(context.principal, present.store_id, present.file_id)
            if found is None:
                raise NotFound.of("vector store file", present.file_id)
            present = found
        raise InvalidRequest(
            "The file is being changed by others at the same time; try again.",
            code="vector_store_file_changed",
        )

    async def _restamped(
        self,
        context: Context,
        store_view: JsonObject,
        present: Attachment,
        *,
        sent: Mapping[str, Scalar],
        attributes: SplitAttributes,
    ) -> Attachment:
        file = await self._state.files.get(context.principal, present.file_id)
        if file is None:
            raise NotFound.of("vector store file", present.file_id)
        resource: JsonObject = {
            "store": store_view,
            "document": self._document(file, attributes),
            "attachment": present.stamp,
        }
        decision, stamp = await self._enforcer.stamp(
            context, Question(Point.INGEST, "ingest.document", resource, about=present.file_id)
        )
        if isinstance(decision, Deny):
            raise _refused(decision, present.file_id)
        if stamp["owner"] != present.stamp["owner"]:  # INVARIANT: write-once, whatever the policy says
            raise PolicyUnavailable("regate/ingest/stamp: the owner of an attachment never changes")
        return replace(
            present,
            stamp=stamp,
            requested=dict(sent),
            attributes=dict(attributes.own),
            policy_revision=decision.revision,
            attempts=0,
        )

    async def _swap(self, row: Attachment, *, expected: Attachment) -> Attachment | None:
        """Return the completed attachment with its chunks under the new stamp, or None when it has
        changed since.
        """
        generation = mint_generation(str(row.stamp["tenant"]), row.file_id)
        await self._state.orphaned_chunks.reserve(
            OrphanedChunks(row.store_id, row.file_id, generation), ttl_s=_RESTAMP_SECONDS
        )
        copied = await self._vectors.restamp(
            row.store_id,
            row.file_id,
            generation=expected.generation,
            target=generation,
            stamp=row.stamp,
            attributes=row.attributes,
        )
        if copied != row.chunks:
            # The engine lost some, or has them from before an upgrade of the schema: read again.
            reading = replace(row, status="in_progress", generation="", made=None)
            again = await self._keep(reading, expected=expected)
            await self._discard(row.store_id, row.file_id, generation)
            return again
        made = row.made and replace(row.made, generation=generation)
        swapped = replace(row, generation=generation, made=made)
        if not await self._state.attachments.amend(swapped, expected=expected):
            await self._discard(row.store_id, row.file_id, generation)
            return None
        await self._discard(row.store_id, row.file_id, expected.generation)
        return swapped

    async def _keep(self, row: Attachment, *, expected: Attachment) -> Attachment | None:
        if not await self._state.attachments.amend(row, expected=expected):
            return None
        self._wake()
        return row

    async def _discard(self, store: StoreId, file: FileId, generation: str) -> None:
        """Remove chunks that nothing counts any more. What cannot be removed now is orphaned, and
        collected.
        """
        try:
            await self._vectors.remove(store, file, generation=generation)
        except VectorStoreUnavailable as error:
            _log.warning("chunks_left_behind", extra={"store": store, "file": file, "detail": error.detail})
        else:
            await self._state.orphaned_chunks.forget(OrphanedChunks(store, file, generation))

    def _document(self, file: FileRow | None, attributes: SplitAttributes) -> dict[str, Json]:
        return {
            "filename": "" if file is None else file.filename,
            "mime": "",
            "size": 0 if file is None else file.bytes,
            "attributes": dict(attributes.own),
            "requested": dict(attributes.requested),
            "file": _ABSENT if file is None else self._file_view(file),
        }

    def _file_view(self, row: FileRow) -> JsonObject:
        return self._file_schema.canonical(
            {**row.stamp, "id": row.id, "filename": row.filename, "purpose": row.purpose}
        )


def _refused(decision: Deny, file: FileId) -> NotPermitted:
    """Return the refusal with its reasons: whoever may read a document may know why it is refused."""
    return NotPermitted(
        f"The ingest policy refused the file {file}: "
        + ("; ".join(decision.reasons) or "no reason given")
        + "."
    )
