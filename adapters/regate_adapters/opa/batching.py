"""A policy engine that asks about batches with as little work as an exact answer takes, and in questions that
OPA answers in time.

Not an engine of its own: it wraps `engine.py`. Chunks of one file, and mostly of one owner, carry the same
stamp, and results of one tool are often the same to a policy: what is the same is asked once. A large batch
is asked in parts, a few at once: OPA evaluates a question on one core, and a question has a deadline. Each
member is decided by the same rule on the same input as before, and answers are put together only when all
come from one revision of the policy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, cast

import orjson

from regate_orchestrator.authz.batches import BATCH_RULE, KINDS, NAMED
from regate_orchestrator.concurrency import few_at_once
from regate_orchestrator.errors import PolicyUnavailable
from regate_orchestrator.ports import Answer, Planned, PolicyEngine
from regate_orchestrator.values import Json, JsonObject

SPLIT_FROM: Final = 64
"""Measured with both of 2 cores free: 100 different chunks take 4.7 ms in two questions and 6.6 in one, 64
take 3.4 and 4.6, 20 take 1.7 and 2.0.

The second question costs OPA about 0.5 ms of processor time by itself, which only many members are worth.
"""
MAX_CONCURRENT: Final = 500
"""Measured: 0.03 to 0.06 ms of OPA for each member, so that a question takes 30 ms, and stays within
its deadline where all is slow.
"""
_PARTS_AT_ONCE: Final = 2
"""So a large batch leaves OPA something for everybody else's questions."""
_MAX_TRIES: Final = 3
_WITHOUT_PAUSE: Final = 1_000

_REPEATED: Final = ("chunks", "tool_results")
"""The kinds whose members are often the same. Items and the rows of lists have ids of their own."""
_NAMES: Final = tuple(kind.name for kind in KINDS)


class BatchingEngine:
    """Wraps an engine as `ports.PolicyEngine`. Whatever is no batch is passed on as it is."""

    def __init__(
        self, inner: PolicyEngine, *, split_from: int = SPLIT_FROM, most: int = MAX_CONCURRENT
    ) -> None:
        self._inner = inner
        self._split_from = split_from
        self._most = most

    async def ask(self, rule: str, document: JsonObject) -> Answer:
        """Return the answer to the whole question. See `ports.PolicyEngine.ask`."""
        if rule != BATCH_RULE or not _is_batch(document):
            return await self._inner.ask(rule, document)
        places: dict[str, Sequence[Sequence[Json]]] = {}
        asked = document
        for name in _REPEATED:
            members = cast("Sequence[Json]", document.get(name, ()))
            distinct, positions = await _distinct(members)
            if len(distinct) < len(members):
                asked, places[name] = {**asked, name: distinct}, positions
        parts = list(_parts_of(asked, split_from=self._split_from, most=self._most))
        answer = await (self._inner.ask(rule, asked) if len(parts) == 1 else self._ask_in_parts(parts))
        return _placed(answer, places) if places else answer

    async def plan(self, rule: str, document: JsonObject, *, unknown: str) -> Planned:
        """Return for which rows the rule is true. See `ports.PolicyEngine.plan`."""
        return await self._inner.plan(rule, document, unknown=unknown)

    async def revision(self) -> str:
        """Return the active policy's revision. See `ports.PolicyEngine.revision`."""
        return await self._inner.revision()

    async def _ask_in_parts(self, parts: Sequence[_Part]) -> Answer:
        """Return the parts' answers as one. What was answered by another policy than the newest is
        asked again.
        """
        answers: dict[int, Answer] = {}
        newest = ""

        async def ask(place: int) -> None:
            nonlocal newest
            answers[place] = await self._inner.ask(BATCH_RULE, parts[place].document)
            newest = answers[place].revision

        for _ in range(_MAX_TRIES):
            stale = [
                place
                for place in range(len(parts))
                if place not in answers or answers[place].revision != newest
            ]
            await few_at_once([partial(ask, place) for place in stale], most=_PARTS_AT_ONCE)
            for answer in answers.values():
                if not answer.defined:
                    return answer
            if len({answer.revision for answer in answers.values()}) == 1:
                return _joined([(part, answers[place]) for place, part in enumerate(parts)])
        raise PolicyUnavailable(f"the policy changed {_MAX_TRIES} times while a batch was decided")


@dataclass(frozen=True, slots=True)
class _Part:
    """One of the questions that a batch is asked in. Of the kinds that are cut, `own` are its members,
    and `starts` the places of the first.
    """

    document: JsonObject
    own: Mapping[str, Sequence[Json]]
    starts: Mapping[str, int]


def _parts_of(document: JsonObject, *, split_from: int, most: int) -> Iterator[_Part]:
    """Yield the parts: of each kind that has many members every part has its share, and the first has
    everything else.
    """
    kinds = {name: cast("Sequence[Json]", document[name]) for name in _NAMES if document.get(name)}
    cut = {name: list(members) for name, members in kinds.items() if len(members) >= split_from}
    count = max(-(-sum(map(len, kinds.values())) // most), 2) if cut else 1
    shares = {name: -(-len(members) // count) for name, members in cut.items()}
    for number in range(count):
        starts = {name: number * share for name, share in shares.items()}
        own = {name: members[starts[name] : starts[name] + shares[name]] for name, members in cut.items()}
        if number == 0:
            yield _Part({**document, **_shared(document, {**kinds, **own})}, own, starts)
        elif any(own.values()):
            yield _Part(
                {name: value for name, value in document.items() if name not in _NAMES}
                | _shared(document, own),
                own,
                starts,
            )


def _shared(document: JsonObject, members: Mapping[str, Sequence[Json]]) -> dict[str, Json]:
    """Return these members as the question holds them, with the stores that its chunks need.

    That such a store is decided in several parts is of no use, and of no harm.
    """
    stores = cast("Mapping[str, Json]", document.get("stores", {}))
    chunks = members.get("chunks", ())
    needed = [chunk.get("store") for chunk in chunks if isinstance(chunk, Mapping)]
    named = {
        name: stores[name]
        for name in (*members.get("stores", ()), *needed)
        if isinstance(name, str) and name in stores
    }
    return {name: list(some) for name, some in members.items()} | {"stores": named}


def _joined(answers: Sequence[tuple[_Part, Answer]]) -> Answer:
    """Return the answers of all parts as one."""
    (first, answer), *_ = answers
    found: dict[str, Json] = {}
    for name in first.own:
        found[name] = [
            member for part, said in answers if part.own[name] for member in _admitted(said, name, part)
        ]
    return _with(answer, found)


def _admitted(answer: Answer, name: str, part: _Part) -> list[Json]:
    """Return what of the part's own members is admitted, as the whole question calls them."""
    if name in NAMED:
        said, known = _listed(answer, name), frozenset(cast("Sequence[str]", part.document[name]))
        if not all(isinstance(member, str) and member in known for member in said):
            raise _not_asked(name)
        return [member for member in part.own[name] if member in said]
    return [part.starts[name] + position for position in _positions(answer, name, len(part.own[name]))]


def _placed(answer: Answer, places: Mapping[str, Sequence[Sequence[Json]]]) -> Answer:
    """Return the answer about distinct members as one about all. `places` are, by kind, where each of them
    was asked about. An undefined answer stays as it is, for the enforcer to refuse.
    """
    if not answer.defined:
        return answer
    found: dict[str, Json] = {
        name: [position for place in _positions(answer, name, len(at)) for position in at[place]]
        for name, at in places.items()
    }
    return _with(answer, found)


def _with(answer: Answer, found: Mapping[str, Json]) -> Answer:
    value = answer.value
    assert isinstance(value, Mapping)  # noqa: S101 — INVARIANT: `_listed` has read it
    return Answer(answer.defined, {**value, **found}, answer.revision)


def _positions(answer: Answer, name: str, asked: int) -> list[int]:
    """Return the admitted positions. Raises `PolicyUnavailable` unless they are a set of those that
    were asked about.
    """
    listed = _listed(answer, name)
    positions = [position for position in listed if type(position) is int and 0 <= position < asked]
    if len(positions) < len(listed) or len(set(positions)) < len(positions):
        raise _not_asked(name)
    return positions


def _listed(answer: Answer, name: str) -> list[Json]:
    listed = answer.value.get(name) if isinstance(answer.value, Mapping) else None
    if not isinstance(listed, list):
        raise PolicyUnavailable(f"{BATCH_RULE}.{name} is not a set")
    return listed


def _not_asked(name: str) -> PolicyUnavailable:
    return PolicyUnavailable(f"{BATCH_RULE}.{name} is not a set of what was asked")


async def _distinct(members: Sequence[Json]) -> tuple[list[Json], list[list[Json]]]:
    """Return each different member once, and at which positions it was asked about. In JSON 1, 1.0 and
    true differ, as they do for OPA.
    """
    if len(members) < 2:
        return list(members), []
    positions: dict[bytes, list[Json]] = {}
    distinct: list[Json] = []
    for position, member in enumerate(members):
        if position % _WITHOUT_PAUSE == _WITHOUT_PAUSE - 1:
            await asyncio.sleep(0)
        known = positions.setdefault(_canonical(member), [])
        if not known:
            distinct.append(member)
        known.append(position)
    return distinct, list(positions.values())


def _canonical(member: Json) -> bytes:
    try:
        return orjson.dumps(member)
    except TypeError as error:  # a lone surrogate, an integer beyond 64 bits
        raise PolicyUnavailable(f"what a batch asks about is not JSON: {error}") from error


def _is_batch(document: JsonObject) -> bool:
    """Return whether all that the question holds has the shape that the enforcer gives it."""
    return isinstance(document.get("stores", {}), Mapping) and all(
        isinstance(document.get(name, []), list) for name in _NAMES if name != "stores"
    )
