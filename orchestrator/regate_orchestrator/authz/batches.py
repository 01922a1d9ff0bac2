"""Batches: many decisions in one query (`rego/lib/batch/batch.rego`), each by the same rule as when asked for
singly.

What is asked, how the answer is read, and how both are written down. Not who asks: `enforcer.py`, the
counterpart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, Self, cast

from regate_orchestrator.authz.points import Point
from regate_orchestrator.errors import PolicyUnavailable
from regate_orchestrator.ports import Answer
from regate_orchestrator.values import Json, JsonObject

BATCH_RULE: Final = "regate/lib/batch/admitted"
BATCH_ACTION: Final = "batch"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of what a batch decides: its name there, and the rule and the action by which each
    member of it is decided.
    """

    name: str
    point: Point
    action: str
    row: str
    """The input key by which the rule knows a member."""
    is_list: bool = False
    """Whether its members are the rows of a list that is to be shown, each decided as the list's
    filter was made.
    """


_OF_POINTS: Final = {
    name: Kind(name, point, action, point.contract.row, is_list=name.startswith("listed_"))
    for point in Point
    for name, action in point.contract.batched.items()
}
NAMED: Final = ("stores", "models")
"""The kinds whose members are named; of the others they are known by their position."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What is decided together."""

    stores: Mapping[str, JsonObject] = field(default_factory=dict)
    """Store rows by id, each decided for `store.search` and known to the chunks below."""
    chunks: Sequence[tuple[str, JsonObject]] = ()
    """Pairs of store id and canonical stamp, decided for `chunk.read`."""
    items: Sequence[JsonObject] = ()
    """Stored items, decided for `history.reuse`."""
    tool_results: Sequence[JsonObject] = ()
    """Mappings of `tool` and `result` metadata, decided for `tool.result`."""
    models: Sequence[str] = ()
    """Model names, decided for `model.list`."""
    listed_stores: Sequence[JsonObject] = ()
    listed_files: Sequence[JsonObject] = ()
    listed_prompts: Sequence[JsonObject] = ()
    listed_responses: Sequence[JsonObject] = ()
    """Rows, decided for `response.list`; those above likewise."""

    @classmethod
    def of(cls, kind: Kind, rows: Sequence[JsonObject]) -> Self:
        """Return a batch of rows that are listed."""
        members: dict[str, Any] = {kind.name: rows}
        return cls(**members)

    @property
    def is_empty(self) -> bool:
        """Return whether there is nothing to decide."""
        return not any(self.count(kind) for kind in KINDS)

    def count(self, kind: Kind) -> int:
        """Return how many members of this kind there are."""
        return len(getattr(self, kind.name))

    def as_input(self) -> JsonObject:
        """Return the batch's part of the policy input."""
        listed: dict[str, Json] = {
            kind.name: list(getattr(self, kind.name)) for kind in KINDS if kind.is_list
        }
        return {
            "stores": dict(self.stores),
            "chunks": [{"store": store, "chunk": stamp} for store, stamp in self.chunks],
            "items": list(self.items),
            "tool_results": list(self.tool_results),
            "models": list(self.models),
            **listed,
        }


KINDS: Final = tuple(_OF_POINTS[member.name] for member in fields(Batch))
"""All kinds, in the order of a batch."""
CHUNKS: Final = _OF_POINTS["chunks"]
LISTED_STORES: Final = _OF_POINTS["listed_stores"]
LISTED_FILES: Final = _OF_POINTS["listed_files"]
LISTED_PROMPTS: Final = _OF_POINTS["listed_prompts"]
LISTED_RESPONSES: Final = _OF_POINTS["listed_responses"]


@dataclass(frozen=True, slots=True)
class Admitted:
    """What a batch admitted: store ids and model names, and positions in the batch's sequences.
    Whatever is not named is denied.
    """

    revision: str
    stores: frozenset[str] = frozenset()
    chunks: frozenset[int] = frozenset()
    items: frozenset[int] = frozenset()
    tool_results: frozenset[int] = frozenset()
    models: frozenset[str] = frozenset()
    listed_stores: frozenset[int] = frozenset()
    listed_files: frozenset[int] = frozenset()
    listed_prompts: frozenset[int] = frozenset()
    listed_responses: frozenset[int] = frozenset()

    def of(self, kind: Kind) -> frozenset[str] | frozenset[int]:
        """Return what was admitted of this kind."""
        found: frozenset[str] | frozenset[int] = getattr(self, kind.name)
        return found


NONE_ADMITTED: Final = Admitted("")


def read_admitted(answer: Answer, batch: Batch) -> Admitted:
    """Return what the answer admits. Raises `PolicyUnavailable` unless it names, of each kind, a set
    of what was asked.
    """
    value = answer.value
    if not answer.defined or not isinstance(value, Mapping):
        raise PolicyUnavailable(f"{BATCH_RULE} is not an object")
    found: dict[str, frozenset[str] | frozenset[int]] = {}
    for kind in KINDS:
        if kind.is_list and not batch.count(kind) and kind.name not in value:
            # A policy that was assembled before there were these; of nobody's list anything is shown by it
            continue
        found[kind.name] = _members(value, kind, batch)
    return Admitted(answer.revision, **cast("dict[str, Any]", found))


def batch_entry(batch: Batch, admitted: Admitted) -> JsonObject:
    """Return a batch as records hold it: what was asked, and what of it was admitted."""
    asked = batch.as_input()
    return {
        kind.name: {"asked": asked[kind.name], "admitted": sorted(admitted.of(kind))}
        for kind in KINDS
        if asked[kind.name]
    }


def outcomes_of(batch: Batch, admitted: Admitted) -> Iterator[tuple[Point, int, int]]:
    """Yield, for each kind that was asked about, by which point it was decided, and how many members
    were admitted and denied.
    """
    for kind in KINDS:
        if asked := batch.count(kind):
            allowed = len(admitted.of(kind))
            yield kind.point, allowed, asked - allowed


def _members(value: Mapping[str, Json], kind: Kind, batch: Batch) -> frozenset[str] | frozenset[int]:
    listed = value.get(kind.name)
    if isinstance(listed, list | tuple):
        if kind.name in NAMED:
            known = frozenset(getattr(batch, kind.name))
            if all(isinstance(member, str) and member in known for member in listed):
                return frozenset(cast("list[str]", listed))
        else:
            count = batch.count(kind)
            if all(type(member) is int and 0 <= member < count for member in listed):
                return frozenset(cast("list[int]", listed))
    raise PolicyUnavailable(f"{BATCH_RULE}.{kind.name} is not a set of what was asked")
