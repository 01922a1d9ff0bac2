"""The part of the suite for vector stores (`suite.py`) that is about generations: what is read, copied and
removed of one of several.

A file may have chunks of several generations in a store; no call that names one may touch another, or another
file, or another store.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from regate_adapters.testing.conformance import ConformanceFailure, expect
from regate_adapters.testing.vector.corpus import DIMENSIONS, QUERY, SCHEMA, hostile_chunks
from regate_orchestrator.documents.generations import chunk_id, generation_of, renamed
from regate_orchestrator.errors import VectorStoreUnavailable
from regate_orchestrator.filters.expression import Compare, Defined, Everything, Matching
from regate_orchestrator.ports import Candidate, Chunk, Query, VectorStore
from regate_orchestrator.values import FileId, JsonObject, StoreId

_STORE: Final = StoreId("vs_conformance")
_OTHER: Final = StoreId("vs_conformance_other")
_ABSENT: Final = StoreId("vs_conformance_absent")
_TENANT: Final = "acme"
_ALL: Final = 1_000
_FILE: Final = FileId("file-0001")
_EARLIER, _LATER, _NEW = (f"acme/{_FILE}/{name}" for name in ("aaaa", "aaaa1", "bbbb"))
"""The names of two of them begin alike: what is named must be compared whole."""
_FIRST: Final = f"acme/{_FILE}"
"""As the first version named its only generation: the beginning of all the others."""


def _chunks(generation: str, *, count: int = 3) -> list[Chunk]:
    """Return chunks of the generation, hostile in all but their ids, each with a field and an
    attribute that not every chunk has.
    """
    return [
        replace(
            chunk,
            id=chunk_id(generation, place),
            file_id=_FILE,
            index=place,
            # A generation is of one tenant.
            stamp={**chunk.stamp, "region": "eu", "tenant": _TENANT},
            attributes={**chunk.attributes, "colour": "red"},
        )
        for place, chunk in enumerate(hostile_chunks(count=count))
    ]


async def _filled(store: VectorStore, *chunks: Sequence[Chunk]) -> None:
    await store.create(_STORE, dimensions=DIMENSIONS)
    for part in chunks:
        await store.add(_STORE, part)


async def _found(store: VectorStore, name: StoreId = _STORE) -> dict[str, Candidate]:
    found = await store.search(name, Query(QUERY, limit=_ALL), plan=Everything())
    return {candidate.id: candidate for candidate in found.candidates}


async def _texts_are_those_of_the_chunks_that_are_there(store: VectorStore) -> None:
    await _filled(store, hostile_chunks())
    chunks = [chunk for chunk in hostile_chunks() if chunk.stamp["tenant"] == _TENANT]
    expect(
        "all texts",
        expected={one.id: one.text for one in chunks},
        actual=dict(await store.texts(_STORE, [one.id for one in chunks], tenant=_TENANT)),
    )
    asked = [chunks[3].id, "acme/file-none/000000", chunks[1].id, chunks[3].id]
    expected = {chunks[3].id: chunks[3].text, chunks[1].id: chunks[1].text}
    expect(
        "texts of some, of which one is not there",
        expected=expected,
        actual=dict(await store.texts(_STORE, asked, tenant=_TENANT)),
    )
    expect("texts of none", expected={}, actual=dict(await store.texts(_STORE, [], tenant=_TENANT)))


async def _removing_a_file_removes_all_its_chunks_and_no_other(store: VectorStore) -> None:
    others = [chunk for chunk in hostile_chunks() if chunk.file_id != _FILE]
    await _filled(store, _chunks(_EARLIER), _chunks(_LATER), _chunks(_FIRST), others)
    for _ in range(2):
        await store.remove(_STORE, _FILE)
    expect(
        "the other files stay",
        expected=sorted(chunk.id for chunk in others),
        actual=sorted(await _found(store)),
    )
    await store.remove(_ABSENT, _FILE)


async def _removing_an_generation_removes_its_chunks_and_no_other(store: VectorStore) -> None:
    for generation in (_EARLIER, _FIRST):
        others = [chunk for one in (_EARLIER, _LATER, _FIRST) if one != generation for chunk in _chunks(one)]
        await _filled(store, _chunks(generation), others)
        for _ in range(2):
            await store.remove(_STORE, _FILE, generation=generation)
        expect(
            f"all but {generation} stay",
            expected=sorted(chunk.id for chunk in others),
            actual=sorted(await _found(store)),
        )
        await store.remove(_STORE, FileId("file-none"), generation=_LATER)
        expect(
            "a generation of another file stays",
            expected=sorted(chunk.id for chunk in others),
            actual=sorted(await _found(store)),
        )
    await store.remove(_ABSENT, _FILE, generation=_EARLIER)


async def _a_copy_differs_in_stamp_and_attributes_and_in_nothing_else(store: VectorStore) -> None:
    earlier, stamp = _chunks(_EARLIER), _other_stamp()
    await _filled(store, earlier, _chunks(_LATER))
    before = await _found(store)
    copied = await store.restamp(
        _STORE, _FILE, generation=_EARLIER, target=_NEW, stamp=stamp, attributes={"size": 2}
    )
    after = await _found(store)
    expect("how many were copied", expected=len(earlier), actual=copied)
    expect(
        "what was there stays as it was",
        expected=before,
        actual={key: value for key, value in after.items() if key in before},
    )
    expect(
        "what is new",
        expected=sorted(renamed(one.id, target=_NEW) for one in earlier),
        actual=sorted(set(after) - set(before)),
    )
    for chunk in earlier:
        source, copy = after[chunk.id], after[renamed(chunk.id, target=_NEW)]
        same = (source.file_id, source.index, source.text)
        expect(f"the rest of {chunk.id}", expected=same, actual=(copy.file_id, copy.index, copy.text))
        if not math.isclose(source.score, copy.score, abs_tol=1e-6):
            raise ConformanceFailure(
                f"score of the copy of {chunk.id}: expected {source.score}, got {copy.score}"
            )
        expect(f"stamp of the copy of {chunk.id}", expected=SCHEMA.canonical(stamp), actual=dict(copy.stamp))
        expect(f"attributes of the copy of {chunk.id}", expected={"size": 2}, actual=dict(copy.attributes))
    for gone in (Defined(("region",)), Defined(("attributes", "colour"))):
        found = await store.search(_STORE, Query(QUERY, limit=_ALL), plan=Matching(gone))
        merged = [one.id for one in found.candidates if generation_of(one.id) == _NEW]
        expect(f"nothing of the old stamp is merged into the copy ({gone!r})", expected=[], actual=merged)
    found = await store.search(
        _STORE, Query(QUERY, limit=_ALL), plan=Matching(Compare("eq", ("owner",), "new-owner"))
    )
    expect("the copy is found by its stamp", expected=len(earlier), actual=len(found.candidates))


async def _copying_again_replaces_the_copy_whole(store: VectorStore) -> None:
    await _filled(store, _chunks(_EARLIER), _chunks(_NEW, count=9))
    for _ in range(2):
        copied = await store.restamp(
            _STORE, _FILE, generation=_EARLIER, target=_NEW, stamp=_other_stamp(), attributes={}
        )
        expect("how many were copied", expected=3, actual=copied)
    found = await _found(store)
    expect("the copy holds nothing else", expected=3, actual=sum(generation_of(one) == _NEW for one in found))
    counted = await store.search(_STORE, Query(QUERY, limit=1), plan=Everything())
    expect("what is counted", expected=6, actual=counted.total)


async def _copying_what_is_not_there_copies_nothing(store: VectorStore) -> None:
    await _filled(store, _chunks(_LATER))
    copied = await store.restamp(
        _STORE, _FILE, generation=_EARLIER, target=_NEW, stamp=_other_stamp(), attributes={}
    )
    expect("copies of nothing", expected=(0, 3), actual=(copied, len(await _found(store))))
    try:
        await store.restamp(
            _ABSENT, _FILE, generation=_EARLIER, target=_NEW, stamp=_other_stamp(), attributes={}
        )
    except VectorStoreUnavailable:
        return
    raise ConformanceFailure("chunks of a store that is not there were copied")


async def _a_copy_with_a_stamp_not_as_declared_is_not_stored(store: VectorStore) -> None:
    await _filled(store, _chunks(_EARLIER))
    bad = {key: value for key, value in _other_stamp().items() if key != "level"}
    try:
        await store.restamp(_STORE, _FILE, generation=_EARLIER, target=_NEW, stamp=bad, attributes={})
    except VectorStoreUnavailable:
        expect("nothing was stored", expected=3, actual=len(await _found(store)))
        return
    raise ConformanceFailure("a stamp that lacks a field was stored")


async def _generations_are_those_with_chunks_in_the_store(store: VectorStore) -> None:
    await _filled(store, _chunks(_EARLIER), _chunks(_LATER), _chunks(_FIRST))
    await store.create(_OTHER, dimensions=DIMENSIONS)
    expect("generations", expected={_EARLIER, _LATER, _FIRST}, actual=set(await store.generations(_STORE)))
    await store.remove(_STORE, _FILE, generation=_LATER)
    expect(
        "generations, one being removed",
        expected={_EARLIER, _FIRST},
        actual=set(await store.generations(_STORE)),
    )
    for name in (_OTHER, _ABSENT):
        expect(f"generations in {name}", expected=set(), actual=set(await store.generations(name)))


async def _all_chunks_are_read_as_they_were_stored(store: VectorStore) -> None:
    stored = {
        chunk.id: chunk for chunk in [*hostile_chunks(), *_chunks(_EARLIER), *_chunks(_LATER, count=1_100)]
    }
    await _filled(store, list(stored.values()))
    read = [chunk async for page in store.chunks(_STORE) for chunk in page]
    expect("each chunk once", expected=sorted(stored), actual=sorted(chunk.id for chunk in read))
    for chunk in read:
        expect(f"chunk {chunk.id}", expected=_shown(stored[chunk.id]), actual=_shown(chunk))
        pairs = zip(stored[chunk.id].vector, chunk.vector, strict=True)
        if not all(math.isclose(one, other, abs_tol=1e-6) for one, other in pairs):
            raise ConformanceFailure(f"the vector of {chunk.id} is not the one that was stored")


async def _no_chunks_are_read_of_an_empty_store_and_an_absent_one_is_refused(store: VectorStore) -> None:
    await _filled(store)
    expect("chunks", expected=[], actual=[one async for page in store.chunks(_STORE) for one in page])
    try:
        async for page in store.chunks(_ABSENT):
            raise ConformanceFailure(f"a store that is not there has {len(page)} chunks")
    except VectorStoreUnavailable:
        return
    raise ConformanceFailure("a store that is not there passes for one without chunks")


def _shown(chunk: Chunk) -> tuple[object, ...]:
    """Return all of the chunk but its vector, in a form that tells booleans from numbers."""
    stamp = repr(sorted(SCHEMA.canonical(chunk.stamp).items()))
    attributes = {
        key: (isinstance(value, bool), float(value) if isinstance(value, int) else value)
        for key, value in chunk.attributes.items()
    }
    return chunk.file_id, chunk.index, chunk.text, stamp, attributes


def _other_stamp() -> JsonObject:
    """Return a stamp that has the required fields only, so that a field of another which is
    orphaned shows.
    """
    stamp = hostile_chunks(count=1)[0].stamp
    required = {key: value for key, value in stamp.items() if SCHEMA.fields[key].required}
    return required | {"tenant": "acme", "owner": "new-owner", "teams": []}


GENERATION_CHECKS: Final[tuple[Callable[[VectorStore], Awaitable[None]], ...]] = (
    _texts_are_those_of_the_chunks_that_are_there,
    _removing_a_file_removes_all_its_chunks_and_no_other,
    _removing_an_generation_removes_its_chunks_and_no_other,
    _a_copy_differs_in_stamp_and_attributes_and_in_nothing_else,
    _copying_again_replaces_the_copy_whole,
    _copying_what_is_not_there_copies_nothing,
    _a_copy_with_a_stamp_not_as_declared_is_not_stored,
    _generations_are_those_with_chunks_in_the_store,
    _all_chunks_are_read_as_they_were_stored,
    _no_chunks_are_read_of_an_empty_store_and_an_absent_one_is_refused,
)
