"""What stands around each chunk of a file, written by a model, so that a search finds a chunk by what it
leaves unsaid.

The model is shown the file that the chunk is of, or the part around the chunk where that is long, and never
anything of another file. What it wrote is kept with the file until that is deleted, so that nothing is asked
for twice: an attempt that was broken off goes on where it ended.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from typing import Final

from regate_orchestrator.concurrency import all_settled
from regate_orchestrator.metrics import Metrics
from regate_orchestrator.ports import ContextWriter, StateStore, UsageRow, WrittenContext
from regate_orchestrator.principal import Principal
from regate_orchestrator.values import Clock, FileId, wall_clock

_log = logging.getLogger("regate.ingestion")
_AT_ONCE: Final = 8
_SHOWN: Final = 24_000
"""Characters of a document that the model is shown at once: about 6,000 tokens."""
_TELLING: Final = 32
_DAY_SECONDS: Final = 86_400


class Contexts:
    """Returns the contexts of chunks. A file of more than `most_chunks` gets none, and the log says so."""

    def __init__(
        self,
        writer: ContextWriter,
        state: StateStore,
        *,
        most_chunks: int,
        clock: Clock = wall_clock,
        metrics: Metrics | None = None,
    ) -> None:
        self._writer = writer
        self._state = state
        self._most_chunks = most_chunks
        self._clock = clock
        metrics = metrics or Metrics()
        self._outcomes = metrics.counter(
            "regate_ingest_contexts",
            "Contexts of chunks: those that were written, kept from before, or failed, and chunks of files "
            "that are too long for any.",
            ("outcome",),
            rows=[("written",), ("kept",), ("failed",), ("too_long",)],
        )
        self._tokens = metrics.counter(
            "regate_ingest_context_tokens",
            "Tokens that contexts took, as the upstream counted them.",
            ("direction",),
            rows=[("input",), ("output",)],
        )

    @property
    def name(self) -> str:
        """Return all that decides which contexts a file's chunks get."""
        return f"{self._writer.name}\n{self._most_chunks}\n{_SHOWN}"

    async def of(self, principal: Principal, file: FileId, texts: Sequence[str]) -> list[str]:
        """Return the context of each of the file's chunks; an empty one where the file is too long.

        Raises `ContextUnavailable` when one could not be written. Those that were written until then are
        kept.
        """
        if len(texts) > self._most_chunks:
            self._outcomes.add("too_long", count=len(texts))
            detail = f"{len(texts)} chunks are more than {self._most_chunks}: none gets a context"
            _log.warning("contexts_left_out", extra={"file": file, "detail": detail})
            return [""] * len(texts)
        shown = _excerpts(texts)
        digests = [self._digest(document, text) for document, text in zip(shown, texts, strict=True)]
        kept = dict(await self._state.contexts.of(principal, file, digests))
        self._outcomes.add("kept", count=sum(digest in kept for digest in digests))
        left = {
            digest: (document, text)
            for digest, document, text in zip(digests, shown, texts, strict=True)
            if digest not in kept
        }
        missing = list(left.items())
        for start in range(0, len(missing), _AT_ONCE):
            kept |= await self._written(principal, file, dict(missing[start : start + _AT_ONCE]))
        return [kept[digest] for digest in digests]

    async def _written(
        self, principal: Principal, file: FileId, asked: dict[str, tuple[str, str]]
    ) -> dict[str, str]:
        """Return what the model writes of these, once it is kept and counted."""
        written, failures = await all_settled(
            {digest: self._writer.write(document, text) for digest, (document, text) in asked.items()}
        )
        contexts = {digest: one.text for digest, one in written.items()}
        await self._state.contexts.keep(principal, file, contexts)
        await self._count(principal, file, list(written.values()))
        self._outcomes.add("written", count=len(written))
        self._outcomes.add("failed", count=len(failures))
        if failures:
            raise failures[0]
        return contexts

    async def _count(self, principal: Principal, file: FileId, written: Sequence[WrittenContext]) -> None:
        sent, received = sum(one.input_tokens for one in written), sum(one.output_tokens for one in written)
        self._tokens.add("input", count=sent)
        self._tokens.add("output", count=received)
        detail = f"{len(written)} contexts, {sent} tokens in and {received} out"
        _log.info("contexts_written", extra={"file": file, "detail": detail})
        day = int(self._clock()) // _DAY_SECONDS
        row = UsageRow(
            principal.tenant, principal.id, self._writer.model, day, 0, sent, received, 0
        )  # no request of theirs, hence none is counted
        await self._state.usage.add([row])

    def _digest(self, document: str, text: str) -> str:
        """Return what the context depends on, and nothing else does."""
        parts = (self._writer.name, document, text)
        return hashlib.sha256(
            b"".join(hashlib.sha256(part.encode(errors="replace")).digest() for part in parts)
        ).hexdigest()


def _excerpts(texts: Sequence[str]) -> list[str]:
    """Return for each chunk the document, or as much of it before and after the chunk as is shown at once."""
    added = [
        text[shared:] if (shared := _shared(before, text)) else f"\n{text}"
        for before, text in zip(("", *texts), texts, strict=False)
    ]
    return [_around(texts, added, place) for place in range(len(texts))]


def _around(texts: Sequence[str], added: Sequence[str], place: int) -> str:
    first, after, left = place, place + 1, _SHOWN - len(texts[place])
    while left > 0 and (first > 0 or after < len(texts)):
        if first > 0:
            first -= 1
            left -= len(added[first])
        if after < len(texts) and left > 0:
            left -= len(added[after])
            after += 1
    return "".join((texts[first], *added[first + 1 : after]))


def _shared(before: str, text: str) -> int:
    """Return how many characters at the text's beginning are the end of the one before."""
    start = before.find(text[:_TELLING]) if text else -1
    while start >= 0:
        if text.startswith(before[start:]):
            return len(before) - start
        start = before.find(text[:_TELLING], start + 1)
    return 0
