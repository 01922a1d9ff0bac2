"""Ingestion: the decision that stamps a document, then its text in chunks with vectors, visible all at once or not at all.

`attach` decides and leaves an `in_progress` attachment; `work` runs in the application's task group and finishes attachments one by one.
A chunk can be found only while its attachment is `completed`, so a crash, a detach or a failure in the middle shows nothing (I5, I9).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from regate_orchestrator.attributes import SplitAttributes
from regate_orchestrator.decisions import Context, Deny, Point, Question
from regate_orchestrator.embedding import EmbeddingModels
from regate_orchestrator.enforcer import Enforcer
from regate_orchestrator.errors import NotPermitted, RegateError
from regate_orchestrator.filters import Scalar
from regate_orchestrator.ports import BlobStore, Chunk, Extractor, StateStore, UnreadableFile, VectorStore
from regate_orchestrator.principal import read_principal
from regate_orchestrator.rows import Attachment, FileRow, StoreRow
from regate_orchestrator.values import Clock, FileId, JsonObject, StoreId, wall_clock

_log = logging.getLogger("regate.ingestion")
_BATCH: Final = 64


@dataclass(frozen=True, slots=True)
class Chunking:
    """How a file is split, in tokens. The overlap is at most half of the size (OpenAI, "chunking_strategy")."""

    max_tokens: int = 800
    overlap_tokens: int = 400


class Ingestion:
    """Attaches files to vector stores."""

    def __init__(
        self,
        *,
        enforcer: Enforcer,
        state: StateStore,
        blobs: BlobStore,
        extractor: Extractor,
        models: EmbeddingModels,
        vectors: VectorStore,
        clock: Clock = wall_clock,
    ) -> None:
        self._enforcer = enforcer
        self._state = state
        self._blobs = blobs
        self._extractor = extractor
        self._models = models
        self._vectors = vectors
        self._clock = clock
        self._queue: asyncio.Queue[Attachment] = asyncio.Queue()

    async def attach(
        self,
        context: Context,
        *,
        store: StoreRow,
        store_view: JsonObject,
        file: FileRow,
        file_view: JsonObject,
        sent: Mapping[str, Scalar],
        attributes: SplitAttributes,
        chunking: Chunking,
    ) -> Attachment:
        """Return the new attachment, in progress and queued. The caller has decided that the store and the file may be used.

        Raises `NotPermitted` with the policy's reasons when the ingest decision denies; the owner of a document may know why. Raises
        `InvalidRequest` when the store's embedding model is no longer configured.
        """
        self._models.require([store])
        document: JsonObject = {
            "filename": file.filename,
            "mime": "",
            "size": file.bytes,
            "attributes": dict(attributes.own),
            "requested": dict(attributes.requested),
            "file": file_view,
        }
        question = Question(Point.INGEST, "ingest.document", {"store": store_view, "document": document}, about=file.id)
        decision, stamp = await self._enforcer.stamp(context, question)
        if isinstance(decision, Deny):
            raise NotPermitted("The ingest policy refused the file: " + ("; ".join(decision.reasons) or "no reason given") + ".")
        attachment = Attachment(
            store_id=store.id,
            file_id=file.id,
            created_at=int(self._clock()),
            status="in_progress",
            stamp=stamp,
            requested=dict(sent),
            attributes=dict(attributes.own),
            max_chunk_tokens=chunking.max_tokens,
            overlap_tokens=chunking.overlap_tokens,
            policy_revision=decision.revision,
            principal=context.principal.as_input(),
        )
        await self._state.put_attachment(attachment)
        await self._queue.put(attachment)
        return attachment

    async def resume(self) -> int:
        """Queue what an earlier process left unfinished; return how many."""
        unfinished = await self._state.unfinished_attachments()
        for attachment in unfinished:
            await self._queue.put(attachment)
        return len(unfinished)

    async def work(self) -> None:
        """Finish queued attachments until cancelled. Several may run at once."""
        while True:
            attachment = await self._queue.get()
            try:
                await self._finish(attachment)
            except RegateError as error:  # the state store is down: the attachment stays in progress and is resumed at the next start
                _log.error("ingest_unfinished", extra={"store": attachment.store_id, "file": attachment.file_id, "cause": str(error)})

    async def _finish(self, attachment: Attachment) -> None:
        store, file = attachment.store_id, attachment.file_id
        try:
            usage, count = await self._store_chunks(attachment)
        except UnreadableFile as error:
            await self._fail(store, file, error.code, error.message)
        except RegateError as error:
            _log.warning("ingest_failed", extra={"store": store, "file": file, "cause": getattr(error, "detail", "") or str(error)})
            await self._fail(store, file, "server_error", error.message)
        else:
            kept = await self._state.finish_attachment(store, file, status="completed", usage_bytes=usage, chunks=count)
            if not kept:  # detached while it was read: its chunks were never live
                await self._vectors.remove(store, file)

    async def _fail(self, store: StoreId, file: FileId, code: str, message: str) -> None:
        await self._state.finish_attachment(store, file, status="failed", error_code=code, error_message=message)

    async def _store_chunks(self, attachment: Attachment) -> tuple[int, int]:
        principal = read_principal(attachment.principal)
        row = None if principal is None else await self._state.file(principal, attachment.file_id)
        store = None if principal is None else await self._state.store(principal, attachment.store_id)
        if principal is None or row is None or store is None:
            raise UnreadableFile("invalid_file", "The file or its vector store was deleted.")
        embedder = self._models.of(store)
        async with self._blobs.local(row.id) as path:
            texts = await self._extractor.chunks(
                path,
                filename=row.filename,
                max_tokens=attachment.max_chunk_tokens,
                overlap_tokens=attachment.overlap_tokens,
            )
        if not texts:
            raise UnreadableFile("invalid_file", "The file holds no text.")
        await self._vectors.remove(attachment.store_id, row.id)
        usage = 0
        for start, batch in _batches(texts):
            vectors = await embedder.embed(batch, tenant=principal.tenant)
            chunks = [
                Chunk(
                    id=f"{principal.tenant}/{row.id}/{start + offset:06d}",
                    file_id=row.id,
                    index=start + offset,
                    text=text,
                    vector=vector,
                    stamp=attachment.stamp,
                    attributes=attachment.attributes,
                )
                for offset, (text, vector) in enumerate(zip(batch, vectors, strict=True))
            ]
            await self._vectors.add(attachment.store_id, chunks)
            usage += sum(len(text.encode()) + 4 * len(vector) for text, vector in zip(batch, vectors, strict=True))
        return usage, len(texts)


def _batches(texts: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
    for start in range(0, len(texts), _BATCH):
        yield start, texts[start : start + _BATCH]
