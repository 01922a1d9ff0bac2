"""Documents for one store, decided many at once (`rego/lib/batch/documents.rego`): what is asked, and how the
answer is read.

Each document is decided by the very rules, on the very input, by which it would be decided alone. Not who
asks: `enforcer.py`, the counterpart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from regate_orchestrator.authz.decisions import Allow, Decision, Deny, Point, Question
from regate_orchestrator.errors import PolicyUnavailable
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.values import FileId, Json, JsonObject

DOCUMENTS_RULE: Final = "regate/lib/batch/ingested"
DOCUMENT_REASONS_RULE: Final = "regate/lib/batch/document_reasons"
MAX_CONCURRENT: Final = 200
"""Measured: 0.8 ms of OPA for each document, so a question stays well within its deadline."""


@dataclass(frozen=True, slots=True)
class Document:
    """A file that is to be added to a store, as policies see it (`rego/schemas/input/ingest.json`)."""

    file_id: FileId
    view: JsonObject


@dataclass(frozen=True, slots=True)
class Ingestible:
    """What was decided about one document: whether its file may be read, and whether it may be
    ingested, with its stamp if so (I5).
    """

    readable: bool
    decision: Decision
    stamp: JsonObject

    @property
    def is_allowed(self) -> bool:
        """Return whether the document may be ingested, its file being readable."""
        return self.readable and isinstance(self.decision, Allow)


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to one question about many documents, by position."""

    readable: frozenset[int]
    stamps: Mapping[int, JsonObject]


def documents_input(store: JsonObject, documents: Sequence[Document]) -> JsonObject:
    """Return the question's own part of the policy input."""
    return {"store": store, "documents": [document.view for document in documents]}


def read_answer(value: Json, *, count: int, schema: RowSchema, tenant: str) -> Answered:
    """Return the answer; raises `PolicyUnavailable` unless it is exactly of its shape, and each stamp
    conforms and is the tenant's.
    """
    if not isinstance(value, Mapping):
        raise PolicyUnavailable(f"{DOCUMENTS_RULE} is not an object")
    readable, stamps = value.get("readable"), value.get("stamps")
    if not isinstance(readable, list | tuple) or any(
        type(place) is not int or not 0 <= place < count for place in readable
    ):
        raise PolicyUnavailable(f"{DOCUMENTS_RULE}.readable is not a set of positions")
    if not isinstance(stamps, Mapping):
        raise PolicyUnavailable(f"{DOCUMENTS_RULE}.stamps is not an object")
    places = {str(place): place for place in range(count)}
    read: dict[int, JsonObject] = {}
    for name, stamp in stamps.items():
        if name not in places or not isinstance(stamp, Mapping):
            raise PolicyUnavailable(f"{DOCUMENTS_RULE}.stamps holds what is not the stamp of a document")
        if faults := schema.faults(stamp):
            raise PolicyUnavailable(f"regate/ingest/stamp: {'; '.join(faults)}")
        if stamp.get("tenant") != tenant:
            raise PolicyUnavailable("regate/ingest/stamp: tenant is not the principal's")
        read[places[name]] = dict(stamp)
    return Answered(frozenset(place for place in readable if isinstance(place, int)), read)


def outcomes(
    store: JsonObject,
    documents: Sequence[Document],
    found: Answered,
    *,
    reasons: Mapping[int, tuple[str, ...]],
    revision: str,
) -> tuple[list[Ingestible], list[tuple[Question, Decision]]]:
    """Return what was decided about each document, and the same as single questions: so it is
    recorded, and can be asked again.
    """
    decided: list[Ingestible] = []
    asked: list[tuple[Question, Decision]] = []
    for place, document in enumerate(documents):
        readable = place in found.readable
        decision = Allow(revision) if place in found.stamps else Deny(revision, reasons.get(place, ()))
        file = Question(Point.FILE, "file.read", {"file": document.view["file"]}, about=document.file_id)
        ingest = Question(
            Point.INGEST,
            "ingest.document",
            {"store": store, "document": document.view},
            about=document.file_id,
        )
        asked += [(file, Allow(revision) if readable else Deny(revision)), (ingest, decision)]
        decided.append(Ingestible(readable, decision, found.stamps.get(place, {})))
    return decided, asked
