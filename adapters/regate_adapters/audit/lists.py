"""Long lists in records: each is written once, and where it has grown since, what was added (`"lists"` in a
line).

A turn of a conversation is recorded with everything that was decided for it, and that is everything before
it, each time. So a list of a batch is found again by a digest of its elements, in their order: a record names
the digest of what is written already, and gives the rest. All that a line needs stands in lines before it, in
the same segment. Whoever reads a segment from its beginning has every list whole (`WholeLists`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from regate_adapters.audit.lines import spelt
from regate_orchestrator.values import Json, JsonObject

LISTS: Final = "lists"
"""The member of a line that holds its lists, by where they belong: the kind within its batch, or the
name of the record's own list.
"""

MARK: Final = b'"lists":{'
"""What stands in every line that has some."""

_LEAST: Final = 8
"""Shorter lists stand where they belong."""

_MAX_KNOWN: Final = 20_000
_DIGEST_BYTES: Final = 20
_OWN: Final = ("chunks",)
"""Lists that stand in a record itself, beside its batch."""


@dataclass(frozen=True, slots=True)
class LongList:
    """A list that was taken out of a record. `digests` says of each element what the list is up to it,
    included.
    """

    place: str
    elements: tuple[bytes, ...]
    digests: tuple[str, ...]


def without_lists(record: JsonObject) -> tuple[JsonObject, tuple[LongList, ...]]:
    """Return the record without its long lists, and these. Positions that a batch admitted are given
    as first and last of each run.
    """
    content: dict[str, Json] = dict(record)
    lists: list[LongList] = []
    for place in _OWN:
        if _is_long(own := record.get(place)):
            lists.append(_long(place, cast("Sequence[Json]", own)))
            del content[place]
    batch = record.get("batch")
    if isinstance(batch, Mapping):
        shortened: dict[str, Json] = {}
        for kind, part in batch.items():
            if (
                isinstance(part, Mapping)
                and _is_long(asked := part.get("asked"))
                and _are_positions(part.get("admitted"))
            ):
                lists.append(_long(f"batch.{kind}", cast("Sequence[Json]", asked)))
                shortened[kind] = {"admitted": list(_runs(cast("Sequence[int]", part["admitted"])))}
            else:
                shortened[kind] = part
        content["batch"] = shortened
    return content, tuple(lists)


class WrittenLists:
    """Which lists the present segment holds. What is `spelt` counts as written from `keep` on, and
    never after `forget`.
    """

    def __init__(self) -> None:
        self._known: dict[str, None] = {}
        self._new: dict[str, None] = {}

    def spelt(self, lists: Sequence[LongList]) -> bytes:
        """Return the member of a line that holds these lists, as little of each as is not written yet."""
        return b'"%s":{%s}' % (LISTS.encode(), b",".join(self._spelt(one) for one in lists))

    def keep(self) -> None:
        """Count what was spelt as written."""
        self._known |= self._new
        self._new = {}
        while len(self._known) > _MAX_KNOWN:
            del self._known[next(iter(self._known))]

    def drop(self) -> None:
        """Count what was spelt since as not written."""
        self._new = {}

    def forget(self) -> None:
        """Begin with an empty segment."""
        self._known, self._new = {}, {}

    def _spelt(self, one: LongList) -> bytes:
        count = next(
            (
                place + 1
                for place in reversed(range(len(one.digests)))
                if self._is_written(one.digests[place])
            ),
            0,
        )
        self._new[one.digests[-1]] = None
        more = b",".join(one.elements[count:])
        after = b"" if not count else b'"after":"%s",' % one.digests[count - 1].encode()
        return b'"%s":{%s"digest":"%s","more":[%s]}' % (
            one.place.encode(),
            after,
            one.digests[-1].encode(),
            more,
        )

    def _is_written(self, digest: str) -> bool:
        return digest in self._known or digest in self._new


class WholeLists:
    """The lists of one segment, for whoever reads it from its beginning and learns from every line
    that has some.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[str | None, list[Any]]] = {}

    def learn(self, record: Mapping[str, Any]) -> None:
        """Take in what this record writes of its lists."""
        for written in record.get(LISTS, {}).values():
            before = written.get("after")
            if before is None or before in self._known:
                self._known.setdefault(
                    written["digest"], (before, written["more"])
                )  # never after itself, whatever a file says

    def whole(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return a record that was learnt from, its lists where they belong. One whose beginning was
        not read is left out.
        """
        content = {name: value for name, value in record.items() if name != LISTS}
        for place, written in record.get(LISTS, {}).items():
            found = self._elements(written["digest"])
            kind = place.removeprefix("batch.")
            if kind == place:
                content |= {} if found is None else {place: found}
                continue
            part = {
                "admitted": [
                    position
                    for first, last in content["batch"][kind]["admitted"]
                    for position in range(first, last + 1)
                ]
            }
            content["batch"] = {**content["batch"], kind: part if found is None else {"asked": found, **part}}
        return content

    def _elements(self, digest: str) -> list[Any] | None:
        parts: list[list[Any]] = []
        following: str | None = digest
        while following is not None:
            if following not in self._known:
                return None
            following, more = self._known[following]
            parts.append(more)
        return [element for part in reversed(parts) for element in part]


def _long(place: str, elements: Sequence[Json]) -> LongList:
    texts = tuple(spelt(element) for element in elements)
    return LongList(place, texts, tuple(_digests(texts)))


def _digests(texts: Sequence[bytes]) -> Iterator[str]:
    before = b""
    for text in texts:
        before = hashlib.sha256(before + text).digest()
        yield before[:_DIGEST_BYTES].hex()


def _is_long(value: Json) -> bool:
    return isinstance(value, list | tuple) and len(value) >= _LEAST


def _are_positions(value: Json) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, int) for one in value)


def _runs(positions: Sequence[int]) -> Iterator[list[Json]]:
    first = last = None
    for position in positions:
        if last is not None and position == last + 1:
            last = position
            continue
        if first is not None:
            yield [first, last]
        first = last = position
    if first is not None:
        yield [first, last]
