"""Audit records as questions: each recorded decision, batch member and filter plan, with the very input that
OPA was asked.

Not how a question is asked again (`replaying.py`) or explained (`workbench/explain/explanation.py`). The
counterpart is `regate_orchestrator.authz.enforcer`, which writes the records; the inputs are built by its own
`policy_input`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

from regate_adapters.audit.reading import read_segment
from regate_adapters.audit.segments import logs_in, segments_in
from regate_orchestrator.authz.batches import BATCH_ACTION, KINDS, Kind
from regate_orchestrator.authz.decisions import Point
from regate_orchestrator.authz.records import policy_input
from regate_orchestrator.values import Json, JsonObject

Record: TypeAlias = Mapping[str, Any]

_GONE: Final = (FileNotFoundError,)
"""What a segment raises that was deleted or moved since it was listed, as old ones are."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Which record a question comes from. Enough to find it again; the principal is its digest, and
    `name` its tenant and id.
    """

    record: str
    at: str
    request_id: str
    response_id: str | None
    tenant: str
    principal: str
    name: str
    revision: str

    @property
    def asker(self) -> str:
        """Return the principal as people are shown it: by digest and name, as far as the name is recorded."""
        return f"{self.principal} ({self.name})" if self.name else self.principal


@dataclass(frozen=True, slots=True)
class RecordedValue:
    """A rule that is no yes or no, and what it said; `said` is empty where it was undefined, and else
    holds the one value.
    """

    rule: str
    said: tuple[Json, ...]

    @property
    def name(self) -> str:
        """Return the rule's own name."""
        return self.rule.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class RecordedQuestion:
    """A value that was asked for by itself, with its input."""

    origin: Origin
    id: str
    action: str
    document: JsonObject
    value: RecordedValue


@dataclass(frozen=True, slots=True)
class RecordedDecision:
    """One yes-or-no question and its recorded answer: a decision, or one member of a batch."""

    origin: Origin
    id: str
    point: Point
    action: str
    about: str
    document: JsonObject
    allowed: bool
    reasons: tuple[str, ...]
    values: tuple[RecordedValue, ...] = ()
    """What qualified the allow."""


@dataclass(frozen=True, slots=True)
class RecordedBatch:
    """One batch query: its input, and its members as questions of their own, keyed as `admitted`
    names them.
    """

    origin: Origin
    document: JsonObject
    members: Mapping[tuple[str, str | int], RecordedDecision]


@dataclass(frozen=True, slots=True)
class RecordedPlan:
    """One compiled filter. `digest` is empty in records that were written before there was one."""

    origin: Origin
    rule: str
    action: str
    unknown: str
    document: JsonObject
    plan: JsonObject
    digest: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """All that one record asked. What is not well-formed is left out and counted, never guessed."""

    decisions: tuple[RecordedDecision, ...] = ()
    batches: tuple[RecordedBatch, ...] = ()
    plans: tuple[RecordedPlan, ...] = ()
    values: tuple[RecordedQuestion, ...] = ()
    unreadable: int = 0

    @property
    def is_empty(self) -> bool:
        """Return whether nothing was asked."""
        return not (self.decisions or self.batches or self.plans or self.values)

    @property
    def every_decision(self) -> Iterator[RecordedDecision]:
        """Yield the decisions, those inside batches included."""
        yield from self.decisions
        for batch in self.batches:
            yield from batch.members.values()


def read_records(place: Path, *, mentioning: str | None = None) -> Iterator[Record]:
    """Yield the audit records in an audit log's directory, or in one file of JSON lines, oldest first, one
    worker's log after the other. Raises `OSError`.

    With `mentioning` only records that hold this text are returned, and few others read, which is what makes
    looking for one identifier quick.
    """
    for path in files_in(place):
        with suppress(*_GONE if path != place else ()):
            for _, record in read_segment(path, mentioning=mentioning, is_finished=path == place):
                if record is not None:
                    yield record


def lines_in(place: Path) -> int:
    """Return how many lines `read_records` reads. Raises `OSError`."""
    lines = 0
    for path in files_in(place):
        with suppress(*_GONE if path != place else ()), path.open("rb") as file:
            lines += sum(piece.count(b"\n") for piece in iter(lambda: file.read(1 << 20), b""))
    return lines


def files_in(place: Path) -> list[Path]:
    """Return the files that `read_records` reads. Raises `OSError`."""
    if not place.is_dir():
        return [place]
    return [path for log in logs_in(place) for path in segments_in(log)]


def questions_in(record: Record) -> Recorded:
    """Return what the record asked; empty for a record of something else than decisions."""
    asked_as, now = record.get("asked_as"), record.get("now")
    if record.get("kind") != "decisions" or not isinstance(asked_as, Mapping) or not isinstance(now, int):
        return Recorded()
    origin = _origin(record)
    decisions: list[RecordedDecision] = []
    batches: list[RecordedBatch] = []
    plans: list[RecordedPlan] = []
    unreadable = 0
    for entry in record.get("decisions", ()):
        try:
            decisions.append(_decision(origin, entry, asked_as, now))
        except (KeyError, TypeError, ValueError):
            unreadable += 1
    values: list[RecordedQuestion] = []
    for entry in record.get("values", ()):
        try:
            values.append(_question(origin, entry, asked_as, now))
        except (KeyError, TypeError):
            unreadable += 1
    if "batch" in record:
        try:
            batches.append(_batch(origin, record, asked_as, now))
        except (KeyError, TypeError, ValueError, IndexError):
            unreadable += 1
    for note in (record.get("compiled"), (record.get("retrieval") or {}).get("compiled")):
        if isinstance(note, Mapping) and "rule" in note:
            try:
                plans.append(_plan(origin, note, asked_as, now))
            except (KeyError, TypeError):
                unreadable += 1
    return Recorded(tuple(decisions), tuple(batches), tuple(plans), tuple(values), unreadable)


def _origin(record: Record) -> Origin:
    response = record.get("response_id")
    return Origin(
        record=str(record.get("seq", "")),
        at=str(record.get("at", "")),
        request_id=str(record.get("request_id", "")),
        response_id=response if isinstance(response, str) else None,
        tenant=str(record.get("tenant", "")),
        principal=str(record.get("principal", "")),
        name=_name(record),
        revision=str(record.get("revision", "")),
    )


def _name(record: Record) -> str:
    asked_as = record.get("asked_as")
    return f"{asked_as.get('tenant')}/{asked_as.get('id')}" if isinstance(asked_as, Mapping) else ""


def principal_names(audit: Path, digests: Iterable[str]) -> dict[str, str]:
    """Return tenant and id of each principal whose digest some audit record names, by digest. Raises
    `OSError`.
    """
    found: dict[str, str] = {}
    for digest in digests:
        records = read_records(audit, mentioning=digest)
        name = next(
            (name for one in records if one.get("principal") == digest and (name := _name(one))), None
        )
        if name is not None:
            found[digest] = name
    return found


def _decision(origin: Origin, entry: Record, asked_as: JsonObject, now: int) -> RecordedDecision:
    action, allowed = str(entry["action"]), entry["allowed"]
    if not isinstance(allowed, bool):
        raise TypeError("allowed is not a boolean")
    point = Point(entry["rule"])
    return RecordedDecision(
        origin=origin,
        id=str(entry["id"]),
        point=point,
        action=action,
        about=str(entry.get("about", "")),
        document=policy_input(
            asked_as, action, dict(entry["resource"]), request_id=origin.request_id, now=now
        ),
        allowed=allowed,
        reasons=tuple(map(str, entry.get("reasons", ()))),
        values=tuple(_decision_attributes(point, entry)),
    )


def _decision_attributes(point: Point, entry: Record) -> Iterator[RecordedValue]:
    """Yield what qualified an allow. Records of earlier versions name those rules only that said
    something.
    """
    said = dict(entry.get("qualities", {}))
    for name in dict.fromkeys([*entry.get("companions", ()), *said]):
        yield RecordedValue(f"{point.package}/{name}", (said[name],) if name in said else ())


def _question(origin: Origin, entry: Record, asked_as: JsonObject, now: int) -> RecordedQuestion:
    action = str(entry["action"])
    return RecordedQuestion(
        origin=origin,
        id=str(entry["id"]),
        action=action,
        document=policy_input(
            asked_as, action, dict(entry["resource"]), request_id=origin.request_id, now=now
        ),
        value=RecordedValue(str(entry["rule"]), (entry["value"],) if "value" in entry else ()),
    )


def _batch(origin: Origin, record: Record, asked_as: JsonObject, now: int) -> RecordedBatch:
    batch = record["batch"]
    parts: dict[str, Any] = {}
    for kind in KINDS:
        parts[kind.name] = (
            batch[kind.name]["asked"] if kind.name in batch else {} if kind.name == "stores" else []
        )
    members: dict[tuple[str, str | int], RecordedDecision] = {}
    for kind in KINDS:
        admitted = set(batch[kind.name]["admitted"]) if kind.name in batch else set()
        for key, about, resource in _members(kind, parts, _chunk_ids(record)):
            members[kind.name, key] = RecordedDecision(
                origin=origin,
                id=f"{origin.record}/{kind.name}/{key}",
                point=kind.point,
                action=kind.action,
                about=about,
                document=policy_input(asked_as, kind.action, resource, request_id=origin.request_id, now=now),
                allowed=key in admitted,
                reasons=(),
            )
    document = policy_input(asked_as, BATCH_ACTION, parts, request_id=origin.request_id, now=now)
    return RecordedBatch(origin, document, members)


def _members(
    kind: Kind, parts: Mapping[str, Any], chunks: Sequence[str]
) -> Iterator[tuple[str | int, str, JsonObject]]:
    """Yield each member's key, what it is about, and its own input keys, exactly as `regate.lib.batch`
    builds them.
    """
    asked = parts[kind.name]
    match kind.name:
        case "stores":
            yield from ((store, store, {"store": row}) for store, row in asked.items())
        case "chunks":
            for position, entry in enumerate(asked):
                about = (
                    chunks[position] if position < len(chunks) else f"chunk {position} of {entry['store']}"
                )
                yield position, about, {"store": parts["stores"].get(entry["store"]), "chunk": entry["chunk"]}
        case "tool_results":
            for position, entry in enumerate(asked):
                yield (
                    position,
                    str(entry["tool"].get("name", position)),
                    {"tool": entry["tool"], "result": entry["result"]},
                )
        case "models":
            for model in asked:
                request = {
                    "method": "GET",
                    "path": "/v1/models",
                    "model": model,
                    "stream": False,
                    "tool_types": [],
                }
                yield model, model, cast("JsonObject", {"request": request})
        case _:
            yield from (
                (position, str(row.get("id", position)), {kind.row: row})
                for position, row in enumerate(asked)
            )


def _chunk_ids(record: Record) -> Sequence[str]:
    """Return the ids of the batch's chunks, which a record names beside the batch; those of files,
    where their stamps stand for their chunks.
    """
    named = (record.get("retrieval") or {}).get("chunks", record.get("chunks", record.get("files", ())))
    return [str(one) for one in named] if isinstance(named, list) else ()


def _plan(origin: Origin, note: Record, asked_as: JsonObject, now: int) -> RecordedPlan:
    action, asked_at = str(note["action"]), note.get("now", now)
    return RecordedPlan(
        origin=origin,
        rule=str(note["rule"]),
        action=action,
        unknown=str(note["unknown"]),
        document=policy_input(
            asked_as, action, dict(note["resource"]), request_id=origin.request_id, now=asked_at
        ),
        plan=dict(note["plan"]),
        digest=str(note.get("digest", "")),
    )
