"""Lineage: a context that grows shares what it grew from, and says exactly what was in it."""

from __future__ import annotations

import pytest

from regate_orchestrator.lineage import (
    NOTHING_READ,
    ChunkSource,
    FileSource,
    Lineage,
    PageSource,
    Source,
    ToolSource,
    all_of,
    read_sources,
    touching,
    written,
)
from regate_orchestrator.values import FileId, Json, StoreId


def chunk(number: int, *, file: str = "file-1", labels: tuple[str, ...] = ()) -> ChunkSource:
    return ChunkSource(
        StoreId("vs_1"), FileId(file), f"acme/{file}/{number:06}", {"tenant": "acme", "labels": list(labels)}
    )


FILE = FileSource(FileId("file-9"), {"tenant": "acme", "owner": "ann"})


def test_lineage_that_grows_keeps_what_it_grew_from_and_adds_what_is_new() -> None:
    first = NOTHING_READ.plus([chunk(1), chunk(2)])
    second = first.plus([chunk(2), FILE, chunk(3), chunk(3)])

    assert second.parent is first
    assert second.added == (FILE, chunk(3))
    assert list(second) == [chunk(1), chunk(2), FILE, chunk(3)]
    assert (first.size, second.size) == (2, 4)


def test_nothing_new_makes_no_new_lineage() -> None:
    first = Lineage.of([chunk(1)])

    assert first.plus([chunk(1)]) is first
    assert NOTHING_READ.plus([]) is NOTHING_READ


def test_labels_are_those_of_all_that_was_read() -> None:
    grown = Lineage.of([chunk(1, labels=("hr",))]).plus([chunk(2, labels=("legal", "hr"))]).plus([FILE])

    assert grown.labels == {"hr", "legal"}


def test_lineage_without_a_source_has_all_the_others() -> None:
    grown = Lineage.of([chunk(1), chunk(2)]).plus([chunk(3)])

    assert list(grown.without(frozenset({chunk(2).key}))) == [chunk(1), chunk(3)]
    assert grown.without(frozenset({chunk(7).key})) is grown
    assert grown.without(frozenset(source.key for source in grown)) is NOTHING_READ


def test_whoever_read_a_source_later_is_touched_by_it_and_nobody_before() -> None:
    before = Lineage.of([chunk(1)])
    reader = before.plus([chunk(2)])
    after = reader.plus([chunk(3)])
    touches = touching(frozenset({chunk(2).key}))

    assert [touches(one) for one in (NOTHING_READ, before, reader, after, before)] == [
        False,
        False,
        True,
        True,
        False,
    ]


def test_sources_of_many_lineages_are_listed_once_as_they_came() -> None:
    first = Lineage.of([chunk(1)])
    branches = [first.plus([chunk(2)]), first.plus([chunk(3), chunk(2)])]

    assert list(all_of([*branches, first]).values()) == [chunk(1), chunk(2), chunk(3)]


def test_a_lineage_of_thousands_of_turns_is_read_without_recursion() -> None:
    grown = NOTHING_READ
    for number in range(5_000):
        grown = Lineage(grown if grown.size else None, (chunk(number),))

    assert (grown.size, len(list(grown)), touching(frozenset({chunk(0).key}))(grown)) == (5_000, 5_000, True)


@pytest.mark.parametrize(
    "sources",
    [
        [],
        [chunk(1)],
        [chunk(1), chunk(2), chunk(1, file="file-2"), FILE, chunk(3)],
        [FILE, chunk(1, labels=("hr",)), chunk(2)],
    ],
)
def test_written_sources_are_read_as_they_were(sources: list[Source]) -> None:
    assert list(read_sources(written(sources))) == sources


def test_what_one_tool_returned_shares_the_tool() -> None:
    search, other = ({"type": "mcp", "name": name} for name in ("search", "other"))
    sources: list[Source] = [
        ToolSource("mcp_1", search, {"size": 1}, {}),
        chunk(1),
        ToolSource("mcp_2", search, {"size": 2}, {}),
        PageSource("https://example.org", other, {"host": "example.org"}),
        PageSource("https://example.org/b", other, {"host": "example.org"}),
        ToolSource("mcp_3", search, {"size": 3}, {}),
    ]
    stored = written(sources)

    assert list(read_sources(stored)) == sources
    assert str(stored).count("'name'") == 3


def test_chunks_of_one_file_share_what_is_written_of_it() -> None:
    assert len(written([chunk(number) for number in range(100)])) == 1


@pytest.mark.parametrize(
    "value",
    [
        [["page", "https://example.org", {}]],
        [["page", "https://example.org", None, {}]],
        [["tool", "mcp_1", None, {}, {}]],
        [["chunk", "vs_1", "file-1", {}]],
        [["file", 1, {}]],
        [[]],
    ],
)
def test_source_of_an_unknown_kind_is_never_taken_for_none(value: Json) -> None:
    with pytest.raises(ValueError, match="unknown kind"):
        list(read_sources(value))
