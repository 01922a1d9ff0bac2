"""The one gate: whatever enters a prompt again, or leaves storage, passes here, decided on what is true now
(I9, I15).

Stored items by `regate.history`; what they rest on by the rules of what it is: chunks as they are attached
and stamped today, files as they are, what tools returned and pages by whether their tool may be used still.
What is gone is not asked about: it is denied. Who has more to decide in the same phase takes the questions
(`ask`), settles them among its own, and has the answers read (`read`); all others call `readmit`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from regate_orchestrator.authz.batches import Admitted, Batch
from regate_orchestrator.authz.decisions import Allow, Context, Decision, Point, Question
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.lineage import ChunkSource, FileSource, PageSource, SourceKey, ToolSource
from regate_orchestrator.ports import StateStore
from regate_orchestrator.responses.context.history import History, Readmitted, readmit
from regate_orchestrator.retrieval.search import Retrieval
from regate_orchestrator.rows import FileRow
from regate_orchestrator.values import FileId, JsonObject

REDACT: Final = "redact"
CITED: Final = "cited"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be decided of a history, and of further files that are named."""

    history: History
    batch: Batch
    questions: tuple[Question, ...]
    """One a file, in the order of `files`."""
    chunks: tuple[ChunkSource, ...]
    """Which chunk each position of `batch.chunks` is."""
    files: Mapping[FileId, FileRow | None]
    """None for one that is absent or invisible, which is asked about all the same (I7)."""
    results: tuple[ToolSource | PageSource, ...] = ()
    """What each of the first positions of `batch.tool_results` is."""

    @property
    def notes(self) -> JsonObject:
        """Return what the audit record says beside the decisions."""
        return {"chunks": [chunk.chunk_id for chunk in self.chunks]}


@dataclass(frozen=True, slots=True)
class Passed:
    """What passed the gate."""

    left: Readmitted
    denied: frozenset[SourceKey]
    items: frozenset[int]
    """The positions of the items that the caller may use again as such, whatever became of what they
    rest on.
    """
    files: Mapping[FileId, FileRow] = field(default_factory=dict)
    """The files that may be read."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Decides again what was made before."""

    enforcer: Enforcer
    state: StateStore
    retrieval: Retrieval
    file_schema: RowSchema

    async def readmit(self, context: Context, history: History, *, phase: str) -> Passed:
        """Return what of the history the caller may use now, everything decided and recorded together."""
        asked = await self.ask(context, history)
        decisions, admitted = await self.enforcer.decide_all(
            context, phase, asked.questions, batch=asked.batch, notes=asked.notes
        )
        return await self.settled(context, asked, decisions, admitted)

    async def settled(
        self, context: Context, asked: Asked, decisions: Sequence[Decision], admitted: Admitted
    ) -> Passed:
        """Return what passed, as `read` does. Where something is denied, the policy says whether items rest
        on all that was read or on what they cite.
        """
        passed = self.read(asked, decisions, admitted)
        if not passed.denied or not asked.history.items:
            return passed
        item = asked.history.items[-1].holder
        said = await self.enforcer.value(context, "regate/history/rests_on", "history.reuse", {"item": item})
        if said != CITED:
            return passed
        left = readmit(asked.history, passed.items, passed.denied, cited_only=True)
        return replace(passed, left=left)

    async def ask(self, context: Context, history: History, *, files: Sequence[FileId] = ()) -> Asked:
        """Return what decides the history, and whether these files may be read, on what is true now.
        Nothing is decided yet.
        """
        chunks = [source for source in history.sources.values() if isinstance(source, ChunkSource)]
        pairs = list(dict.fromkeys((chunk.store_id, chunk.file_id) for chunk in chunks))
        live = await self.state.attachments.live(context.principal, pairs) if pairs else {}
        stores = await self.retrieval.candidates_to_open(
            context, list(dict.fromkeys(store for store, _ in pairs))
        )
        there = [
            chunk for chunk in chunks if (chunk.store_id, chunk.file_id) in live and chunk.store_id in stores
        ]
        named = dict.fromkeys(
            [
                *files,
                *(source.file_id for source in history.sources.values() if isinstance(source, FileSource)),
            ]
        )
        rows = await self.state.files.named(context.principal, list(named)) if named else {}
        found = {file: rows.get(file) for file in named}
        used = {chunk.store_id for chunk in there}
        results = tuple(
            source for source in history.sources.values() if isinstance(source, ToolSource | PageSource)
        )
        batch = Batch(
            stores={store: opened.view for store, opened in stores.items() if store in used},
            chunks=[(chunk.store_id, live[chunk.store_id, chunk.file_id].stamp) for chunk in there],
            tool_results=[{"tool": one.tool, "result": one.result} for one in results],
            items=[one.view() for one in history.items],
        )
        questions = [
            Question(Point.FILE, "file.read", {"file": self._view(row)}, about=file)
            for file, row in found.items()
        ]
        return Asked(history, batch, tuple(questions), tuple(there), found, results)

    def read(self, asked: Asked, decisions: Sequence[Decision], admitted: Admitted) -> Passed:
        """Return what passed. `decisions` are those on `asked.questions`, `admitted` what the batch
        admitted, whatever else was in it.
        """
        readable = {
            file: row
            for (file, row), decision in zip(asked.files.items(), decisions, strict=True)
            if row is not None and isinstance(decision, Allow)
        }
        permitted = {
            chunk.key
            for position, chunk in enumerate(asked.chunks)
            if position in admitted.chunks and chunk.store_id in admitted.stores
        }
        permitted |= {
            source.key for position, source in enumerate(asked.results) if position in admitted.tool_results
        }
        permitted |= {FileSource(file, row.stamp).key for file, row in readable.items()}
        denied = frozenset(asked.history.sources.keys() - permitted)
        items = frozenset(
            position for position in range(len(asked.history.items)) if position in admitted.items
        )
        return Passed(readmit(asked.history, items, denied), denied, items, readable)

    async def withholds(self, context: Context, item: JsonObject, *, count: int) -> bool:
        """Return whether the policy lets a turn go on without what is withheld of its context, after
        recording what it said.

        `item` is what holds the last of the history; `regate.history.on_deny` says which way, and anything
        but `redact` refuses.
        """
        on_deny = await self.enforcer.value(
            context, "regate/history/on_deny", "history.reuse", {"item": item}
        )
        await self.enforcer.record(
            context, "history.withheld", {"kind": "withheld", "count": count, "on_deny": on_deny}
        )
        return on_deny == REDACT

    def _view(self, row: FileRow | None) -> JsonObject:
        if row is None:
            return {"id": ""}
        return self.file_schema.canonical(
            {**row.stamp, "id": row.id, "filename": row.filename, "purpose": row.purpose}
        )
