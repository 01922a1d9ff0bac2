"""Long lists are written once, and come back whole: in their order, from each segment by itself,
whatever was written before or fails.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.adapters.audit.test_log import full_disk

from regate_adapters.audit.lists import WholeLists, WrittenLists, without_lists
from regate_adapters.audit.log import SegmentedAuditLog
from regate_adapters.audit.reading import read, read_segment
from regate_orchestrator.errors import AuditUnavailable
from regate_orchestrator.values import JsonObject


def item(number: int) -> JsonObject:
    return {
        "id": f"msg_{number:048}",
        "kind": "message",
        "tenant": "acme",
        "owner": "ann",
        "labels": [],
        "created": number // 2,
    }


def turn(number: int, *, denied: frozenset[int] = frozenset()) -> dict[str, Any]:
    """The record of a turn that follows so many others, of two items and a chunk each."""
    items = [item(one) for one in range(2 * number)]
    chunks = [
        {"store": "vs_1", "chunk": {"tenant": "acme", "labels": [f"label-{one}"]}} for one in range(number)
    ]
    return {
        "kind": "decisions",
        "phase": "turn",
        "request_id": f"req_{number}",
        "batch": {
            "stores": {"asked": {"vs_1": {"id": "vs_1"}}, "admitted": ["vs_1"]},
            "chunks": {"asked": chunks, "admitted": list(range(number))},
            "items": {"asked": items, "admitted": [one for one in range(2 * number) if one not in denied]},
        },
        "chunks": [f"acme/file-1/e/{one:06}" for one in range(number)],
    }


def lines_in(directory: Path) -> list[bytes]:
    return [
        line
        for path in sorted(directory.glob("audit-*"))
        for line in path.read_bytes().splitlines(keepends=True)
    ]


def told(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in ("seq", "at", "prev")}


async def record_all(directory: Path, *records: dict[str, Any], **options: Any) -> None:
    async with SegmentedAuditLog.open(directory, **options) as log:
        for record in records:
            await log.record(record)


async def test_turns_of_a_conversation_come_back_as_they_were_recorded_and_each_line_holds_what_is_new(
    directory: Path,
) -> None:
    turns = [turn(number) for number in range(1, 101)]
    await record_all(directory, *turns)
    sizes = [len(line) for line in lines_in(directory)]

    assert [told(record) for record in read(directory)] == turns
    assert max(sizes[20:]) < 1_500 < len(json.dumps(turns[-1])) / 20


async def test_a_list_that_changes_where_it_had_not_grown_is_written_anew_from_there(directory: Path) -> None:
    turns = [
        turn(50),
        turn(50, denied=frozenset({3, 4, 99})),
        {**turn(50), "chunks": ["other", *turn(50)["chunks"]]},
        turn(20),
        turn(60),
    ]
    await record_all(directory, *turns)
    sizes = [len(line) for line in lines_in(directory)]

    assert [told(record) for record in read(directory)] == turns
    assert sizes[1] < 1_000 < sizes[2] < sizes[0]


async def test_every_segment_can_be_read_by_itself_and_so_can_what_is_written_after_a_restart(
    directory: Path,
) -> None:
    turns = [turn(number) for number in range(1, 41)]
    for some in (turns[:25], turns[25:]):
        await record_all(directory, *some, rotate_bytes=20_000)
    segments = sorted(directory.glob("audit-*"))
    alone = [record for segment in segments for _, record in read_segment(segment)]

    assert len(segments) > 3
    assert [told(record) for record in alone if record is not None] == turns


async def test_what_could_not_be_written_is_not_counted_on(directory: Path) -> None:
    async with SegmentedAuditLog.open(directory) as log:
        await log.record(turn(10))
        with full_disk(next(directory.glob("audit-*")).stat().st_size + 50), pytest.raises(AuditUnavailable):
            await log.record(turn(30))
        await log.record(turn(31))

    assert [told(record) for record in read(directory)] == [turn(10), turn(31)]


async def test_a_record_that_mentions_something_has_its_lists_whole(directory: Path) -> None:
    await record_all(directory, *(turn(number) for number in range(1, 31)))
    (segment,) = directory.glob("audit-*")
    ((number, found),) = read_segment(segment, mentioning='"req_30"')

    assert number == 30
    assert found is not None
    assert told(found) == turn(30)


async def test_a_list_whose_beginning_is_missing_is_left_out_and_never_guessed(directory: Path) -> None:
    await record_all(directory, *(turn(number) for number in range(8, 12)))
    (segment,) = directory.glob("audit-*")
    segment.write_bytes(b"".join(lines_in(directory)[1:]))
    found = [record for _, record in read_segment(segment)]

    assert [
        record is not None and ("asked" in record["batch"]["items"], "chunks" in record) for record in found
    ] == [(False, False)] * 3


NOT_OURS = [
    '{"chunks":{}}',
    '{"batch.items":{"digest":"d","more":[1]}}',
    '{"chunks":{"digest":["d"],"more":[]}}',
    '{"chunks":[]}',
]


@pytest.mark.parametrize("lists", NOT_OURS)
def test_a_line_that_is_not_ours_is_none(tmp_path: Path, lists: str) -> None:
    (tmp_path / "lines.jsonl").write_text(f'{{"seq":1,"lists":{lists}}}\n')

    assert [record for _, record in read_segment(tmp_path / "lines.jsonl")] == [None]


def test_lists_that_are_said_to_follow_each_other_end(tmp_path: Path) -> None:
    said = [("a", None, [1]), ("b", "a", [2]), ("a", "b", [3]), ("c", "c", [4])]
    lines = [
        {"seq": number, "lists": {"chunks": {"digest": of, "after": after, "more": more}}}
        for number, (of, after, more) in enumerate(said)
    ]
    (tmp_path / "lines.jsonl").write_text(
        "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    )
    found = [
        record.get("chunks") for _, record in read_segment(tmp_path / "lines.jsonl") if record is not None
    ]

    assert found == [[1], [1, 2], [1], None]


_ELEMENTS = st.lists(
    st.one_of(st.integers(0, 3), st.text(max_size=2), st.builds(dict, id=st.integers(0, 2))), max_size=20
)


@given(st.lists(st.tuples(_ELEMENTS, st.sets(st.integers(0, 19)), st.booleans()), max_size=12))
def test_whatever_is_taken_out_of_records_is_put_back(
    records: list[tuple[list[Any], set[int], bool]],
) -> None:
    written, whole = WrittenLists(), WholeLists()
    for elements, admitted, is_kept in records:
        record = {"batch": {"items": {"asked": elements, "admitted": sorted(admitted)}}, "chunks": elements}
        content, lists = without_lists(record)
        line = {**content, **json.loads(b"{" + written.spelt(lists) + b"}")} if lists else content
        if not is_kept:
            written.drop()
            continue
        written.keep()
        whole.learn(line)

        assert whole.whole(line) == record
