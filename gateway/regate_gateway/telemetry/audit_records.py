"""What audit records say of the things they are about: which chunk, file or store, and whether the person got
it. Pure.

Not how an audit log is read (`regate_adapters.audit.reading`), nor how a record is shown
(`cli/audit_command.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Record: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sighting:
    """One thing that a record is about, by its id, and whether it was granted."""

    id: str
    granted: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records somebody asks for; None means any. Times are as records have them, so that they
    compare as texts.
    """

    request: str | None = None
    response: str | None = None
    subject: str | None = None
    tenant: str | None = None
    file: str | None = None
    chunk: str | None = None
    since: str | None = None
    until: str | None = None
    denied: bool = False

    @property
    def mentioning(self) -> str | None:
        """Return a text that every such record's own line holds."""
        return self.request or self.response

    def takes(self, record: Record) -> bool:
        """Return whether the record is asked for. Checkpoints are nobody's, and never are."""
        if record.get("kind") == "audit.checkpoint":
            return False
        named = {
            "request_id": self.request,
            "response_id": self.response,
            "subject": self.subject,
            "tenant": self.tenant,
        }
        if any(value is not None and record.get(name) != value for name, value in named.items()):
            return False
        at = str(record.get("at", ""))
        if (self.since is not None and at < self.since) or (self.until is not None and at >= self.until):
            return False
        if self.file is None and self.chunk is None:
            return not self.denied or is_denied(record)
        return any(not (self.denied and sighting.granted) for sighting in self.sightings(record))

    def sightings(self, record: Record) -> list[Sighting]:
        """Return what the record says of the file or chunk that is asked for; nothing where none is."""
        if self.file is None and self.chunk is None:
            return []
        return [sighting for sighting in sightings(record) if self._is_about(sighting.id)]

    def _is_about(self, identifier: str) -> bool:
        if self.chunk is not None and identifier != self.chunk:
            return False
        return self.file is None or self.file == identifier or f"/{self.file}/" in identifier


def sightings(record: Record) -> Iterator[Sighting]:
    """Yield everything that the record names and decides."""
    for decision in record.get("decisions", ()):
        yield Sighting(str(decision.get("about", "")), bool(decision.get("allowed")))
    batch = record.get("batch", {})
    for kind, part in batch.items():
        yield from _members(kind, part)
    if (found := record.get("retrieval")) is not None:
        admitted = set(batch.get("chunks", {}).get("admitted", ()))
        for position, chunk in enumerate(found.get("chunks", ())):  # the batch's, in its order
            yield Sighting(chunk, position in admitted)
    if record.get("kind") == "denied":
        for identifier in (*record.get("chunks", ()), *record.get("rows", ())):
            yield Sighting(str(identifier), granted=False)
    if record.get("kind") == "sweep" and "about" in record:
        yield Sighting(str(record["about"]), granted=True)


def is_denied(record: Record) -> bool:
    """Return whether anything in the record was refused or withheld."""
    if record.get("kind") in ("denied", "withheld") or record.get("allowed") is False:
        return True
    if any(not decision.get("allowed") for decision in record.get("decisions", ())):
        return True
    return any(
        len(part.get("admitted", ())) < len(part.get("asked", ()))
        for part in record.get("batch", {}).values()
    )


def _members(kind: str, part: Mapping[str, Any]) -> Iterator[Sighting]:
    """Yield the members of a batch that have ids: the keys of what was asked by name, else the ids
    inside of what was asked.
    """
    asked, admitted = part.get("asked", ()), set(part.get("admitted", ()))
    if isinstance(asked, Mapping):
        yield from (Sighting(name, name in admitted) for name in asked)
        return
    for position, member in enumerate(asked):
        inner = member.get(kind.removesuffix("s")) if isinstance(member, Mapping) else None
        for holder in (member, inner):
            if isinstance(holder, Mapping) and isinstance(holder.get("id"), str):
                yield Sighting(holder["id"], position in admitted)
