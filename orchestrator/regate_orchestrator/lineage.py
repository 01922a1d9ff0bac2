"""Lineage: everything that was in a model's context when something was written. Each use of what was written
decides all of it again (I15).

A context grows by a few sources at a time, so a lineage shares all but what is new with the one that it grew
from: a conversation keeps each source once, however long it is. Values; nothing here decides anything
(`responses/readmission.py` does).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias, cast

from regate_orchestrator.values import FileId, Json, JsonObject, StoreId, mint

SourceKey: TypeAlias = tuple[str, ...]
"""What tells sources apart: their kind, then the ids of what they are."""


@dataclass(frozen=True, slots=True)
class ChunkSource:
    """A chunk that a search found. The stamp is the one it was admitted with."""

    store_id: StoreId
    file_id: FileId
    chunk_id: str
    stamp: JsonObject

    @property
    def key(self) -> SourceKey:
        """Return what no other source has."""
        return ("chunk", self.store_id, self.chunk_id)

    @property
    def labels(self) -> Sequence[str]:
        """Return its labels."""
        return cast("Sequence[str]", self.stamp.get("labels", ()))


@dataclass(frozen=True, slots=True)
class FileSource:
    """A stored file that was read into the prompt whole, named by a message or a tool's output. The
    stamp is that of when it was read.
    """

    file_id: FileId
    stamp: JsonObject

    @property
    def key(self) -> SourceKey:
        """Return what no other source has."""
        return ("file", self.file_id)

    @property
    def labels(self) -> Sequence[str]:
        """Return its labels."""
        return cast("Sequence[str]", self.stamp.get("labels", ()))


@dataclass(frozen=True, slots=True)
class ToolSource:
    """What a call of a tool returned that ran here: `tool` and `result` as `regate.tool` sees them, without
    arguments and text.
    """

    call_id: str
    """The id of the call's item."""
    tool: JsonObject
    result: JsonObject
    call: JsonObject
    """What else is known of the call: the digest of its arguments, its numbers, the identity that the server
    was shown, and when it ran.
    """

    @property
    def key(self) -> SourceKey:
        """Return what no other source has."""
        return ("tool", self.call_id)

    @property
    def labels(self) -> Sequence[str]:
        """Return its labels."""
        return cast("Sequence[str]", self.result.get("labels", ()))


@dataclass(frozen=True, slots=True)
class PageSource:
    """A page of the web that was read into the prompt. `tool` found it; `result` is it, as `regate.tool` sees
    it: its host, and never its text.
    """

    url: str
    tool: JsonObject
    result: JsonObject

    @property
    def key(self) -> SourceKey:
        """Return what no other source has."""
        return ("page", self.url)

    @property
    def labels(self) -> Sequence[str]:
        """Return its labels."""
        return cast("Sequence[str]", self.result.get("labels", ()))


Source: TypeAlias = ChunkSource | FileSource | ToolSource | PageSource


def labels_of(sources: Iterable[Source]) -> frozenset[str]:
    """Return the labels that the sources' stamps name."""
    return frozenset(label for source in sources for label in source.labels)


@dataclass(frozen=True, slots=True, eq=False)
class Lineage:
    """The sources of one context: those that came in last, after those of the context that it grew
    from. Two are equal that hold the same.
    """

    parent: Lineage | None = None
    added: tuple[Source, ...] = ()
    id: str = field(default_factory=lambda: mint("lin_"))
    kept_in: str = ""
    """Where it is kept already, which the state store alone says and reads; empty for one that is not
    kept yet.
    """
    size: int = field(init=False)
    labels: frozenset[str] = field(init=False)
    """The labels of all that is in it."""

    def __post_init__(self) -> None:
        before = self.parent
        new = labels_of(self.added)
        known: frozenset[str] = frozenset() if before is None else before.labels
        object.__setattr__(self, "size", len(self.added) + (0 if before is None else before.size))
        object.__setattr__(self, "labels", known if new <= known else known | new)

    @classmethod
    def of(cls, sources: Iterable[Source]) -> Lineage:
        """Return the lineage of these sources, each once."""
        return NOTHING_READ.plus(sources)

    def plus(self, sources: Iterable[Source]) -> Lineage:
        """Return the lineage with these as well; itself where none of them is new."""
        arrived = {source.key: source for source in sources}
        if not arrived:
            return self
        known = {source.key for source in self} if self.size else frozenset()
        new = tuple(source for key, source in arrived.items() if key not in known)
        return Lineage(self if self.size else None, new) if new else self

    def without(self, keys: frozenset[SourceKey]) -> Lineage:
        """Return the lineage without these; itself where none of them is in it."""
        left = [source for source in self if source.key not in keys]
        return self if len(left) == self.size else Lineage.of(left)

    def since(self, earlier: Lineage) -> tuple[Source, ...]:
        """Return the sources that are not in the earlier lineage."""
        if self is earlier:
            return ()
        known = {source.key for source in earlier}
        return tuple(source for source in self if source.key not in known)

    def parts(self) -> list[Lineage]:
        """Return the lineages that it grew from, the oldest first, and itself. Each differs from the
        one before by what it `added`.
        """
        found: list[Lineage] = []
        part: Lineage | None = self
        while part is not None:
            found.append(part)
            part = part.parent
        return found[::-1]

    def __iter__(self) -> Iterator[Source]:
        return itertools.chain.from_iterable(part.added for part in self.parts())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Lineage) and (
            self is other or (self.size == other.size and list(self) == list(other))
        )

    def __hash__(self) -> int:
        return hash((self.size, self.labels))


NOTHING_READ: Final = Lineage(id="")
"""The lineage of what rests on nothing of ours: what a client wrote, or a model that had read no more
than that.
"""


def touching(keys: frozenset[SourceKey]) -> Callable[[Lineage], bool]:
    """Return what says whether a lineage holds one of these. Lineages that share parts are looked
    through once.
    """
    judged: dict[str, bool] = {}

    def touches(lineage: Lineage) -> bool:
        if lineage.id not in judged:
            for part in lineage.parts():
                before = part.parent is not None and judged[part.parent.id]
                judged[part.id] = before or any(source.key in keys for source in part.added)
        return judged[lineage.id]

    return touches if keys else lambda _: False


def all_of(lineages: Iterable[Lineage]) -> dict[SourceKey, Source]:
    """Return the sources of all these, each once, in the order in which they came in."""
    found: dict[SourceKey, Source] = {}
    seen: set[str] = set()
    for lineage in lineages:
        if lineage.id in seen:
            continue
        for part in lineage.parts():
            if part.id not in seen:
                seen.add(part.id)
                found.update((source.key, source) for source in part.added)
    return found


def written(sources: Iterable[Source]) -> list[Json]:
    """Return the sources as JSON: chunks of one file that follow each other share its ids and stamp, and what
    one tool returned shares the tool, which is null where it is that of the one before.
    """
    groups: list[list[Json]] = []
    last: tuple[str, ...] = ()
    stamp: JsonObject = {}
    chunks: list[Json] = []
    before: JsonObject | None = None
    for source in sources:
        match source:
            case ChunkSource(store, file, chunk):
                if last == (store, file) and stamp == source.stamp:
                    chunks.append(chunk)
                    continue
                last, stamp, chunks = (store, file), source.stamp, [chunk]
                groups.append(["chunk", store, file, stamp, chunks])
            case FileSource(file):
                last = ()
                groups.append(["file", file, source.stamp])
            case ToolSource(call_id, tool, result, call):
                last = ()
                groups.append(["tool", call_id, None if tool == before else tool, result, call])
                before = tool
            case PageSource(url, tool, result):
                last = ()
                groups.append(["page", url, None if tool == before else tool, result])
                before = tool
    return cast("list[Json]", groups)


def read_sources(value: Json) -> Iterator[Source]:
    """Yield the sources that `written` wrote. Raises `ValueError` for anything else: what is not known
    cannot be decided.
    """
    before: JsonObject | None = None
    for group in cast("Sequence[Sequence[Json]]", value):
        match group:
            case ["chunk", str(store), str(file), Mapping() as stamp, [*chunks]]:
                for chunk in chunks:
                    yield ChunkSource(StoreId(store), FileId(file), cast("str", chunk), stamp)
            case ["file", str(file), Mapping() as stamp]:
                yield FileSource(FileId(file), stamp)
            case ["tool", str(call_id), Mapping() | None as tool, Mapping() as result, Mapping() as call]:
                before = _shared(tool, before)
                yield ToolSource(call_id, before, result, call)
            case ["page", str(url), Mapping() | None as tool, Mapping() as result]:
                before = _shared(tool, before)
                yield PageSource(url, before, result)
            case _:
                raise ValueError(f"a source of an unknown kind: {group[:1]!r}")


def _shared(tool: JsonObject | None, before: JsonObject | None) -> JsonObject:
    """Return the tool, which is that of the source before where it is not said."""
    found = before if tool is None else tool
    if found is None:
        raise ValueError("a source of an unknown kind: of no tool")
    return found
