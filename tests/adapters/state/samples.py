"""Rows for the tests of the state store: plausible ones, of which a test changes what it is about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from regate_adapters.state.store import SqlStateStore
from regate_orchestrator.lineage import NOTHING_READ, ChunkSource, Lineage
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import (
    Attachment,
    ConversationRow,
    FileBatch,
    FileRow,
    LoggedEvent,
    PromptRow,
    PromptVersion,
    ResponseRow,
    StoredItem,
    StoreRow,
)
from regate_orchestrator.values import BatchId, ConversationId, FileId, PromptId, ResponseId, StoreId

ANN = Principal("ann", "acme", teams=("sales",))
BOB = Principal("bob", "acme")
EVE = Principal("eve", "globex")

PATIENT_SECONDS = 60
"""How long what must succeed may take on the slowest machine."""


def waiting(store: SqlStateStore, deadline_s: float) -> SqlStateStore:
    """Return the same open store, over the same connections, with another deadline: a short one is for
    what is to run into it alone.
    """
    return SqlStateStore(replace(store._database, _deadline_s=deadline_s))


def stamp_of(who: Principal, **fields: Any) -> dict[str, Any]:
    return {
        "tenant": who.tenant,
        "owner": who.id,
        "visibility": "tenant",
        "teams": list(who.teams),
        "level": 0,
        **fields,
    }


def file_of(
    who: Principal,
    name: str = "file-1",
    *,
    created: int = 100,
    filename: str = "a.txt",
    purpose: str = "assistants",
    **fields: Any,
) -> FileRow:
    return FileRow(FileId(name), filename, 3, purpose, created, stamp_of(who, **fields))


def store_of(
    who: Principal, name: str = "vs_1", *, created: int = 100, shared: bool = False, **fields: Any
) -> StoreRow:
    stamp = stamp_of(who, shared=shared, **fields)
    return StoreRow(
        StoreId(name), "Handbook", created, created, {"colour": "blue"}, stamp, "model-256", 256, "main"
    )


def attachment_of(who: Principal, store: str = "vs_1", file: str = "file-1", **changes: Any) -> Attachment:
    values: dict[str, Any] = {
        "created_at": 100,
        "status": "in_progress",
        "stamp": stamp_of(who),
        "requested": {"regate.teams": "sales", "colour": "blue"},
        "attributes": {"colour": "blue", "size": 1.5, "new": True},
        "max_chunk_tokens": 800,
        "overlap_tokens": 400,
        "policy_revision": "r1",
        "principal": who.as_input(),
    }
    return Attachment(StoreId(store), FileId(file), **(values | changes))


def prompt_of(
    who: Principal, name: str = "pmpt_1", *, created: int = 100, title: str = "Greeting", **fields: Any
) -> PromptRow:
    return PromptRow(
        PromptId(name), title, created, {"colour": "blue", "regate.teams": "sales"}, stamp_of(who, **fields)
    )


def version_of(
    who: Principal,
    name: str = "pmpt_1",
    number: int = 1,
    *,
    created: int = 100,
    text: str = "Hello {{name}}.",
) -> PromptVersion:
    return PromptVersion(
        PromptId(name), number, created, who.id, {"instructions": text, "temperature": 0.5}, ("name",)
    )


def attached_of(who: Principal, store: str = "vs_1", file: str = "file-1", **changes: Any) -> Attachment:
    """A completed attachment, whose chunks are of a generation of their own."""
    values = {"status": "completed", "usage_bytes": 10, "chunks": 2, "generation": f"{who.tenant}/{file}/e1"}
    return attachment_of(who, store, file, **(values | changes))


def batch_of(who: Principal, name: str = "vsfb_1", store: str = "vs_1") -> FileBatch:
    return FileBatch(BatchId(name), StoreId(store), 100, who.tenant, who.id)


def response_of(
    who: Principal,
    name: str = "resp_1",
    *,
    previous: str | None = None,
    created: int = 100,
    items: int = 2,
    text: str = "x",
) -> ResponseRow:
    read = Lineage.of([ChunkSource(StoreId("vs_1"), FileId("file-1"), "acme/file-1/000000", stamp_of(who))])
    results = ({"chunk_id": "acme/file-1/000000", "text": "found", "score": 0.25},)
    return ResponseRow(
        id=ResponseId(name),
        tenant=who.tenant,
        owner=who.id,
        created_at=created,
        status="completed",
        previous_response_id=None if previous is None else ResponseId(previous),
        model="small",
        policy_revision="r1",
        body={"id": name, "object": "response", "error": None, "temperature": 1.0, "text": text},
        items=tuple(
            StoredItem(
                f"msg_{name}_{position}",
                {"type": "message", "text": text},
                "output" if position else "input",
                read if position else NOTHING_READ,
                results,
            )
            for position in range(items)
        ),
    )


def conversation_of(
    who: Principal, name: str = "conv_1", *, created: int = 100, **changes: Any
) -> ConversationRow:
    values: dict[str, Any] = {"metadata": {"colour": "blue"}, "policy_revision": "r1"}
    return ConversationRow(ConversationId(name), who.tenant, who.id, created, **(values | changes))


def items_of(*names: str, direction: Any = "input") -> list[StoredItem]:
    read = Lineage.of([ChunkSource(StoreId("vs_1"), FileId("file-1"), "acme/file-1/000000", stamp_of(ANN))])
    results = ({"chunk_id": "acme/file-1/000000", "text": "found \x00", "score": 0.25},)
    return [
        StoredItem(name, {"type": "message", "id": name, "text": "nul \x00"}, direction, read, results)
        for name in names
    ]


def event_of(number: int) -> LoggedEvent:
    return LoggedEvent({"type": "response.output_text.delta", "sequence_number": number, "delta": "nul \x00"})
