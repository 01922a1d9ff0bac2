"""The story of one answer, out of its audit records: who asked, what was decided, what the answer was made
of, and what was withheld. Pure.

Kinds of records that are not known here are told as they are, with every member that the others do not have.
Not how it is shown (`cli/audit_story_command.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from regate_gateway.telemetry.audit_records import Record

_COMMON: Final = frozenset(
    {
        *(
            "seq",
            "at",
            "prev",
            "kind",
            "phase",
            "request_id",
            "response_id",
            "tenant",
            "subject",
            "principal",
        ),
        *("asked_as", "authentication", "now", "revision", "ms", "decisions", "values", "batch", "retrieval"),
    }
)
"""Members of records that are told in words of their own."""

_WITHHOLDING: Final = ("withheld", "denied", "refused")


@dataclass(frozen=True, slots=True)
class Told:
    """One decision: what was asked, by which rule, about what, and what came of it. `said` is what qualified
    an allow, or a value that is no yes or no.
    """

    id: str
    rule: str
    action: str
    about: str
    allowed: bool | None
    reasons: tuple[str, ...] = ()
    said: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One record. `counts` says of each kind that was decided in a batch how many were admitted, of how many;
    `notes` is all else that it holds.
    """

    seq: int
    at: str
    phase: str
    kind: str
    revision: str
    decisions: tuple[Told, ...]
    counts: Mapping[str, tuple[int, int]]
    notes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """One request and its steps, in their order: the one that made the answer, or one that read it later."""

    request_id: str
    subject: str
    tenant: str
    principal: Mapping[str, Any]
    authentication: Mapping[str, Any]
    revisions: tuple[str, ...]
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Ingredients:
    """What an answer was made of. `chunks` are those that the last decision on each admitted."""

    models: tuple[str, ...] = ()
    stores: tuple[str, ...] = ()
    files: Mapping[str, int] = field(default_factory=dict)
    chunks: tuple[str, ...] = ()
    tools: Mapping[str, int] = field(default_factory=dict)
    servers: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Withheld:
    """Something that did not get into the answer: what, by which record, and why if that is recorded."""

    what: str
    seq: int
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Story:
    """One answer, or one request. The first of `requests` made it."""

    about: str
    requests: tuple[Request, ...]
    made_of: Ingredients
    withheld: tuple[Withheld, ...]


def story_of(about: str, records: Sequence[Record]) -> Story:
    """Return the story that these records tell of the response or request, oldest first; at least one."""
    by_request: dict[str, list[Record]] = {}
    for record in records:
        by_request.setdefault(str(record.get("request_id", "")), []).append(record)
    requests = tuple(_request(name, of_it) for name, of_it in by_request.items())
    making = next(iter(by_request.values()))
    return Story(about, requests, _ingredients(making), tuple(_withheld(making)))


def _request(name: str, records: Sequence[Record]) -> Request:
    who = next((record for record in records if "subject" in record), records[0])
    revisions = dict.fromkeys(str(record["revision"]) for record in records if record.get("revision"))
    return Request(
        name,
        str(who.get("subject", "-")),
        str(who.get("tenant", "-")),
        who.get("asked_as", {}),
        who.get("authentication", {}),
        tuple(revisions),
        tuple(_step(record) for record in records),
    )


def _step(record: Record) -> Step:
    batch: Mapping[str, Any] = record.get("batch", {})
    notes = {name: value for name, value in record.items() if name not in _COMMON}
    if (found := record.get("retrieval")) is not None:
        kept = ("store", "total", "permitted", "returned", "gone", "gated")
        notes["retrieval"] = {name: found[name] for name in kept if name in found}
    return Step(
        seq=int(record.get("seq", 0)),
        at=str(record.get("at", "")),
        phase=str(record.get("phase") or record.get("kind")),
        kind=str(record.get("kind", "")),
        revision=str(record.get("revision", "")),
        decisions=(
            *(_decision(one) for one in record.get("decisions", ())),
            *(_value(one) for one in record.get("values", ())),
        ),
        counts={
            kind: (len(part.get("admitted", ())), len(part.get("asked", part.get("admitted", ()))))
            for kind, part in batch.items()
        },
        notes=notes,
    )


def _decision(entry: Mapping[str, Any]) -> Told:
    return Told(
        id=str(entry.get("id", "")),
        rule=str(entry.get("rule", "")),
        action=str(entry.get("action", "")),
        about=str(entry.get("about", "")),
        allowed=entry.get("allowed") is True,
        reasons=tuple(map(str, entry.get("reasons", ()))),
        said={name: value for name, value in entry.get("qualities", {}).items() if value},
    )


def _value(entry: Mapping[str, Any]) -> Told:
    said = {"value": entry["value"]} if "value" in entry else {}
    rule, action = str(entry.get("rule", "")), str(entry.get("action", ""))
    return Told(str(entry.get("id", "")), rule, action, "", allowed=None, said=said)


def _ingredients(records: Sequence[Record]) -> Ingredients:
    models: dict[str, None] = {}
    stores: dict[str, bool] = {}
    chunks: dict[str, bool] = {}
    files: dict[str, bool] = {}
    tools: dict[str, int] = {}
    servers: dict[str, None] = {}
    destinations: dict[str, None] = {}
    for record in records:
        stores |= dict(_stores(record))
        chunks |= dict(_chunks(record))
        for entry in record.get("decisions", ()):
            allowed, about = entry.get("allowed") is True, str(entry.get("about", ""))
            match entry.get("point"):
                case "route" if allowed:
                    models[about] = None
                case "file":
                    files[about] = allowed
                case "tool" if allowed:
                    tools[about] = tools.get(about, 0) + 1
                    if server := entry.get("resource", {}).get("tool", {}).get("server_label"):
                        servers[str(server)] = None
                case "egress" if allowed:
                    destinations[about] = None
                case _:
                    pass
        if record.get("kind") == "tool.ran" and record.get("server"):
            servers[str(record["server"])] = None
    admitted = [chunk for chunk, is_admitted in chunks.items() if is_admitted]
    counted: dict[str, int] = {file: 0 for file, allowed in files.items() if allowed}
    for chunk in admitted:
        counted[file_of(chunk)] = counted.get(file_of(chunk), 0) + 1
    return Ingredients(
        tuple(models),
        tuple(store for store, is_admitted in stores.items() if is_admitted),
        counted,
        tuple(admitted),
        tools,
        tuple(servers),
        tuple(destinations),
    )


def _stores(record: Record) -> Iterator[tuple[str, bool]]:
    part = record.get("batch", {}).get("stores", {})
    for store in part.get("asked", ()):
        yield str(store), store in part.get("admitted", ())


def _chunks(record: Record) -> Iterator[tuple[str, bool]]:
    """Yield each chunk that the record names, and whether it was admitted; they are named in the batch's
    order.
    """
    named = record.get("retrieval", record).get("chunks", ())
    if record.get("kind") == "denied":
        yield from ((str(chunk), False) for chunk in named)
        return
    admitted = set(record.get("batch", {}).get("chunks", {}).get("admitted", ()))
    for position, chunk in enumerate(named):
        yield str(chunk), position in admitted


def file_of(chunk: str) -> str:
    """Return the file that a chunk is of, by its id (`tenant/file/generation/number`)."""
    parts = chunk.split("/")
    return parts[1] if len(parts) > 1 else chunk


def _withheld(records: Sequence[Record]) -> Iterator[Withheld]:
    for record in records:
        seq = int(record.get("seq", 0))
        for entry in record.get("decisions", ()):
            if entry.get("allowed") is not True:
                about = f"{entry.get('action', '')} {entry.get('about', '')}".strip()
                yield Withheld(about, seq, tuple(map(str, entry.get("reasons", ()))))
        for kind, part in record.get("batch", {}).items():
            missing = len(part.get("asked", ())) - len(part.get("admitted", ()))
            if "asked" in part and missing > 0:
                yield Withheld(f"{missing} {kind}, decided in {record.get('phase')}", seq)
        if (found := record.get("retrieval")) is not None and found.get("total", 0) > found.get(
            "permitted", 0
        ):
            left_out = found["total"] - found["permitted"]
            yield Withheld(f"{left_out} chunks of {found.get('store', '')}, left out by the filter", seq)
        if record.get("kind") in _WITHHOLDING or record.get("allowed") is False:
            yield _noted(record, seq)


def _noted(record: Record, seq: int) -> Withheld:
    """Return what a note says that something was withheld, refused or denied."""
    named = [str(one) for name in ("chunks", "rows") for one in record.get(name, ())]
    if "count" in record:
        what = f"{record['count']} items of the conversation ({record.get('on_deny', 'withheld')})"
    else:
        what = ", ".join(named) or str(record.get("about") or record.get("phase") or record.get("kind"))
    return Withheld(what, seq, tuple(map(str, record.get("reasons", ()))))
