"""Ingestion: the text of attached files in chunks with vectors, visible all at once or not at all. What may
be attached: `attachments.py`.

Workers claim attachments one by one from the state store, so that several workers, and several gateways,
share the work and the dead leave none of it undone. A claim lapses unless it is renewed, and has a generation
of chunks to itself (ADR 0008): a chunk can be found only while its attachment is `completed` and names its
generation, so a crash, a detach, or two workers at one file show nothing half (I5, I9). A file at which
workers die is given up after a few attempts.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from regate_orchestrator.documents.contexts import Contexts
from regate_orchestrator.documents.embedding import EmbeddingModels
from regate_orchestrator.documents.generations import chunk_id, recipe_of
from regate_orchestrator.errors import RegateError, StateUnavailable, TextTooLong, Unavailable
from regate_orchestrator.metrics import Metrics
from regate_orchestrator.places import Places
from regate_orchestrator.ports import (
    BlobStore,
    Chunk,
    Extractor,
    StateStore,
    UnreadableFile,
    VectorStore,
    in_context,
)
from regate_orchestrator.principal import read_principal
from regate_orchestrator.rows import Attachment, MadeChunks, OrphanedChunks
from regate_orchestrator.values import Clock, wall_clock

_log = logging.getLogger("regate.ingestion")
_BATCH: Final = 64
_WAIT_BOUNDS: Final = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0)
MAX_ATTEMPTS: Final = 3
WORKERS: Final = 4
"""How many attachments a gateway works at. Of one tenant it is half of them at most, so that others
never wait for it.
"""


@dataclass(frozen=True, slots=True)
class Pace:
    """How workers keep time, in seconds. A claim is renewed several times within `lease_s`; a failed
    attempt is repeated after `backoff_s`.
    """

    lease_s: int = 60
    renew_s: float = 15.0
    poll_s: float = 5.0
    backoff_s: tuple[int, ...] = (5, 30)


@dataclass(frozen=True, slots=True)
class _Stored:
    usage_bytes: int
    chunks: int
    recipe: str


@dataclass(frozen=True, slots=True)
class _Failed:
    """Nothing was stored. What is `lasting` would fail again."""

    code: str
    message: str
    lasting: bool


class Ingestion:
    """Makes the chunks of attached files."""

    def __init__(
        self,
        *,
        state: StateStore,
        blobs: BlobStore,
        extractor: Extractor,
        models: EmbeddingModels,
        vectors: VectorStore,
        contexts: Contexts | None = None,
        workers: int = WORKERS,
        pace: Pace = Pace(),
        clock: Clock = wall_clock,
        metrics: Metrics | None = None,
    ) -> None:
        self._state = state
        self._blobs = blobs
        self._extractor = extractor
        self._models = models
        self._vectors = vectors
        self._contexts = contexts
        self._pace = pace
        self._work_waits = asyncio.Event()
        self._places = Places(workers)
        self._claiming = asyncio.Lock()
        self._is_looked_after = False
        self._last_tenant = ""
        self._clock = clock
        metrics = metrics or Metrics()
        self._waits = metrics.histogram(
            "regate_ingest_wait_seconds",
            "Time from the attachment of a file until a worker began to read it.",
            (),
            bounds=_WAIT_BOUNDS,
            rows=[()],
        )
        self._outcomes = metrics.counter(
            "regate_ingest",
            "Attempts at attached files.",
            ("outcome",),
            rows=[("completed",), ("failed",), ("repeated",), ("given_up",)],
        )
        self._unchanged = metrics.counter(
            "regate_ingest_unchanged",
            "Files that were attached again, and whose chunks were stamped anew without reading the file.",
            rows=[()],
        )

    def wake(self) -> None:
        """Say that there is work, so that nobody waits for a worker to look again by itself."""
        self._work_waits.set()

    async def resume(self) -> int:
        """Take up what an earlier process was at, and return how much. In a state store that is shared
        it may live, so its claims must lapse.
        """
        return 0 if self._state.membership.is_shared else await self._state.leases.release_all()

    async def work(self) -> None:
        """Claim and finish attachments until cancelled. As many as there are workers may run at once."""
        while True:
            async with AsyncExitStack() as held:
                leased = await self._lease(held)
                if leased is not None:
                    await self._attempt(leased)
                    continue
            await self._wait()

    async def _lease(self, held: AsyncExitStack) -> Attachment | None:
        """Return the next attachment of a tenant that may take a further place, which is then held;
        or None.
        """
        async with self._claiming:  # of two at once, each must know what the other took
            self._work_waits.clear()
            try:
                leased = await self._state.leases.take(
                    ttl_s=self._pace.lease_s, after=self._last_tenant, passing_over=self._places.full()
                )
            except RegateError as error:
                _log.error("ingest_waits", extra={"cause": getattr(error, "detail", "")})
                return None
            if leased is not None:
                self._work_waits.set()  # there may be more: another looks, and waits in our place
                if leased.attempts == 1:
                    self._waits.observe(max(0.0, self._clock() - leased.created_at))
                self._last_tenant = str(leased.stamp["tenant"])
                held.enter_context(self._places.taken(self._last_tenant))
            return leased

    async def _wait(self) -> None:
        """Wait until there is work. One of those that wait looks again by itself, for what falls due."""
        if self._is_looked_after:
            await self._work_waits.wait()
            return
        self._is_looked_after = True
        try:
            async with asyncio.timeout(self._pace.poll_s):
                await self._work_waits.wait()
        except TimeoutError:
            return
        finally:
            self._is_looked_after = False

    async def _attempt(self, leased: Attachment) -> None:
        """Finish the attachment, fail it, or let go of it. Never raises: what the state store could
        not be told is claimed again later.
        """
        try:
            if leased.attempts > MAX_ATTEMPTS:
                message = f"The file could not be processed: {MAX_ATTEMPTS} attempts were broken off."
                await self._settle(leased, _Failed("server_error", message, lasting=True))
            else:
                await self._settle(leased, await self._while_held(leased))
        except RegateError as error:
            _log.error(
                "ingest_unfinished",
                extra={**_about(leased), "cause": getattr(error, "detail", "") or str(error)},
            )
        except asyncio.CancelledError:
            await self._requeue(leased)
            raise

    async def _while_held(self, leased: Attachment) -> _Stored | _Failed | None:
        """Return what came of storing the chunks; None when the claim was lost in the middle."""
        async with asyncio.TaskGroup() as group:
            storing = group.create_task(self._store(leased))
            keeping = group.create_task(self._keep(leased, storing))
            storing.add_done_callback(lambda _: keeping.cancel())
        return None if storing.cancelled() else storing.result()

    async def _keep(self, leased: Attachment, storing: asyncio.Task[_Stored | _Failed]) -> None:
        """Renew the claim until cancelled; end the work when the claim is lost, or could not be
        renewed for as long as it lasts.
        """
        loop = asyncio.get_running_loop()
        held_until = loop.time() + self._pace.lease_s
        while loop.time() < held_until:
            await asyncio.sleep(self._pace.renew_s)
            try:
                if not await self._state.leases.renew(leased, ttl_s=self._pace.lease_s):
                    break
                held_until = loop.time() + self._pace.lease_s
            except StateUnavailable as error:
                _log.warning("claim_not_renewed", extra={**_about(leased), "cause": error.detail})
        storing.cancel()

    async def _settle(self, leased: Attachment, outcome: _Stored | _Failed | None) -> None:
        match outcome:
            case _Stored(usage, chunks, recipe):
                if await self._state.leases.finish(
                    leased, status="completed", usage_bytes=usage, chunks=chunks, recipe=recipe
                ):
                    self._outcomes.add("completed")
                    return
                self._outcomes.add("given_up")
            case _Failed(code, message, lasting) if lasting or leased.attempts >= MAX_ATTEMPTS:
                self._outcomes.add("failed")
                await self._state.leases.finish(
                    leased, status="failed", error_code=code, error_message=message
                )
            case _Failed():
                self._outcomes.add("repeated")
                pauses = self._pace.backoff_s
                retry_in_s = pauses[min(leased.attempts, len(pauses)) - 1] if pauses else 0
                await self._state.leases.release(leased, retry_in_s=retry_in_s, counted=True)
            case None:  # detached, deleted, cancelled or stamped anew while it was read
                self._outcomes.add("given_up")
        await self._discard(leased)

    async def _requeue(self, leased: Attachment) -> None:
        """Let go of an attachment because this process ends, which is no fault of the file's."""
        try:
            await self._state.leases.release(leased, retry_in_s=0, counted=False)
        except RegateError as error:
            _log.warning("ingest_unfinished", extra={**_about(leased), "cause": getattr(error, "detail", "")})

    async def _discard(self, leased: Attachment) -> None:
        """Remove what was written and does not count. What cannot be removed now is orphaned, and
        collected.
        """
        try:
            await self._vectors.remove(leased.store_id, leased.file_id, generation=leased.generation)
            await self._state.orphaned_chunks.forget(
                OrphanedChunks(leased.store_id, leased.file_id, leased.generation)
            )
        except RegateError as error:
            _log.warning(
                "chunks_left_behind", extra={**_about(leased), "detail": getattr(error, "detail", "")}
            )

    async def _store(self, leased: Attachment) -> _Stored | _Failed:
        try:
            return await self._store_chunks(leased)
        except UnreadableFile as error:
            return _Failed(error.code, error.message, lasting=True)
        except TextTooLong as error:
            size = leased.sections.max_tokens if leased.sections else leased.max_chunk_tokens
            advice = f"Attach it again with a 'max_chunk_size_tokens' below {size}."
            message = (
                f"A chunk of the file is longer than what the embedding model takes{error.limit_text}. "
                f"{advice}"
            )
            _log.warning("ingest_failed", extra={**_about(leased), "cause": message})
            return _Failed("invalid_file", message, lasting=True)
        except Unavailable as error:
            _log.warning("ingest_failed", extra={**_about(leased), "cause": error.detail or str(error)})
            return _Failed("server_error", error.message, lasting=False)
        except RegateError as error:
            _log.warning("ingest_failed", extra={**_about(leased), "cause": str(error)})
            return _Failed("server_error", error.message, lasting=True)
        except Exception as error:  # noqa: BLE001 — whatever a file does to us must end with that file
            _log.error("ingest_failed", extra={**_about(leased), "cause": _place_of(error)})
            return _Failed("server_error", "The file could not be processed.", lasting=False)

    async def _store_chunks(self, leased: Attachment) -> _Stored:
        principal = read_principal(leased.principal)
        row = None if principal is None else await self._state.files.get(principal, leased.file_id)
        store = None if principal is None else await self._state.vector_stores.get(principal, leased.store_id)
        if principal is None or row is None or store is None:
            raise UnreadableFile("invalid_file", "The file or its vector store was deleted.")
        embedder = self._models.of(store)
        recipe = recipe_of(
            leased,
            filename=row.filename,
            embedder=embedder.name,
            reading=self._extractor.version,
            contexts=None if self._contexts is None else self._contexts.name,
        )
        # After a failed attempt the file is read: an engine may take so many chunks in parts alone.
        made = leased.made if leased.attempts == 1 else None
        if made is not None and made.recipe == recipe and await self._stamped_anew(leased, made):
            self._unchanged.add()
            return _Stored(made.usage_bytes, made.chunks, recipe)
        texts = await self._extractor.chunks(
            self._blobs.local(row.id),
            filename=row.filename,
            tenant=principal.tenant,
            max_tokens=leased.max_chunk_tokens,
            overlap_tokens=leased.overlap_tokens,
            sections=leased.sections,
        )
        if not texts:
            raise UnreadableFile("invalid_file", "The file holds no text.")
        contexts = [""] * len(texts)
        if self._contexts is not None:
            contexts = await self._contexts.of(principal, row.id, texts)
        usage = 0
        for start, batch in _batches(texts):
            around = contexts[start : start + len(batch)]
            vectors = await embedder.embed(list(map(in_context, batch, around)), tenant=principal.tenant)
            chunks = [
                Chunk(
                    id=chunk_id(leased.generation, start + offset),
                    file_id=row.id,
                    index=start + offset,
                    text=text,
                    vector=vector,
                    stamp=leased.stamp,
                    attributes=leased.attributes,
                    context=context,
                )
                for offset, (text, vector, context) in enumerate(zip(batch, vectors, around, strict=True))
            ]
            await self._vectors.add(leased.store_id, chunks)
            usage += sum(
                len(text.encode()) + 4 * len(vector) for text, vector in zip(batch, vectors, strict=True)
            )
        return _Stored(usage, len(texts), recipe)

    async def _stamped_anew(self, leased: Attachment, made: MadeChunks) -> bool:
        """Store the chunks that there are once more, under the stamp of now. Return False, with nothing
        stored, when the engine has not all of them any more, or has them under an earlier schema.
        """
        copied = await self._vectors.restamp(
            leased.store_id,
            leased.file_id,
            generation=made.generation,
            target=leased.generation,
            stamp=leased.stamp,
            attributes=leased.attributes,
        )
        if copied == made.chunks:
            return True
        await self._vectors.remove(leased.store_id, leased.file_id, generation=leased.generation)
        return False


def _about(leased: Attachment) -> dict[str, str]:
    return {"store": leased.store_id, "file": leased.file_id}


def _place_of(error: Exception) -> str:
    """Return what was raised and where, without its words: they may quote the text of a file (I11)."""
    frames = traceback.extract_tb(error.__traceback__)
    return type(error).__name__ + (f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else "")


def _batches(texts: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
    for start in range(0, len(texts), _BATCH):
        yield start, texts[start : start + _BATCH]
