"""Whatever is done to a log afterwards is found: by the chain, by the signatures, or by the copies of
checkpoints. And what a gateway itself goes through (restarts, crashes, full segments) is no fault.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.patience import PATIENT_SECONDS

from regate_adapters.audit.checkpoints import Checkpointing, copies_in, read_checkpoint
from regate_adapters.audit.findings import Findings
from regate_adapters.audit.lines import digest_of, head_of
from regate_adapters.audit.log import SegmentedAuditLog
from regate_adapters.audit.reading import read
from regate_adapters.audit.segments import segments_in
from regate_adapters.audit.signing import SigningKey, read_signing_key
from regate_adapters.audit.verifying import verify

KEY = read_signing_key("11" * 32, setting="test")
OTHER = read_signing_key("22" * 32, setting="test")
_COPIES = "checkpoints.jsonl"


def making(directory: Path, key: SigningKey = KEY, **more: Any) -> Checkpointing:
    return Checkpointing(key, directory / _COPIES, **more)


async def write(
    directory: Path,
    records: Sequence[dict[str, Any]],
    *,
    key: SigningKey = KEY,
    every: int = 100,
    **more: Any,
) -> None:
    checkpoints = making(directory, key, every_records=every)
    async with SegmentedAuditLog.open(directory, durable=False, checkpoints=checkpoints, **more) as log:
        for record in records:
            await log.record(record)


async def until(holds: Callable[[], object]) -> None:
    """Return as soon as something that another task is at has come about."""
    async with asyncio.timeout(PATIENT_SECONDS):
        while not holds():
            await asyncio.sleep(0.01)


def some(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"kind": "decisions", "number": number, "padding": "x" * 60, **more} for number in range(count)]


def found_in(directory: Path, *keys: SigningKey, copies: bool = True) -> Findings:
    known = {one.public.id: one.public for one in keys or (KEY,)}
    return verify(directory, known, copies=directory / _COPIES if copies else None)


def whats(found: Findings) -> set[str]:
    return {fault.what for fault in found.faults}


def lines_of(segment: Path) -> list[bytes]:
    return segment.read_bytes().splitlines(keepends=True)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of several segments, written by three processes' lives, the last record a checkpoint."""
    directory = tmp_path_factory.mktemp("original") / "audit"
    for _ in range(3):
        asyncio.run(write(directory, some(20), every=7, rotate_bytes=2_000))
    return directory


@pytest.fixture
def copied(original: Path, tmp_path: Path) -> Path:
    """A copy of it, to be tampered with."""
    return Path(shutil.copytree(original, tmp_path / "audit"))


# ---------------------------------------------------------------- what a gateway writes


def test_log_of_several_segments_and_restarts_is_whole_and_signed_to_its_end(original: Path) -> None:
    found = found_in(original)

    assert (found.faults, found.first, found.chained_from, found.unsigned) == ([], 1, 1, 0)
    assert found.segments > 3
    assert found.signed_to == found.last == found.records


def test_each_line_names_the_digest_of_the_one_before_it_over_all_segments(original: Path) -> None:
    lines = [line for segment in segments_in(original) for line in lines_of(segment)]
    heads = [head_of(line) for line in lines]

    assert [None if head is None else head.prev for head in heads] == [
        "0" * 64,
        *(digest_of(line) for line in lines[:-1]),
    ]


def test_a_full_segment_ends_with_a_checkpoint_and_each_is_copied_or_superseded(original: Path) -> None:
    lasts = [read_checkpoint(lines_of(segment)[-1]) for segment in segments_in(original)]
    copied = [checkpoint for _, _, checkpoint in copies_in(original / _COPIES)]

    assert None not in lasts
    assert copied[-1] == lasts[-1]


async def test_a_record_waits_for_its_checkpoint_no_longer_than_configured(directory: Path) -> None:
    async with SegmentedAuditLog.open(directory, checkpoints=making(directory, every_s=1)) as log:
        await log.record({"kind": "x"})
        await until((directory / _COPIES).exists)
        (_, _, first), *_ = copies_in(directory / _COPIES)

    assert first is not None
    assert first.seq == 2
    assert [record["kind"] for record in read(directory)] == [
        "x",
        "audit.checkpoint",
    ]  # and none without need


async def test_what_an_earlier_process_left_unsigned_is_signed_at_the_next_start(directory: Path) -> None:
    async with SegmentedAuditLog.open(directory) as log:
        await log.record({"kind": "x"})
    await write(directory, [])

    assert [record["kind"] for record in read(directory)] == ["x", "audit.checkpoint"]
    assert found_in(directory).is_whole


async def test_copies_that_cannot_be_written_are_counted_and_keep_no_record_waiting(directory: Path) -> None:
    directory.parent.joinpath("file").write_text("")
    checkpoints = Checkpointing(KEY, directory.parent / "file" / _COPIES, every_records=1)
    async with SegmentedAuditLog.open(directory, checkpoints=checkpoints) as log:
        await log.record({"kind": "x"})
        await until(lambda: log.copies_failed)
        await log.record({"kind": "y"})

    assert [record["kind"] for record in read(directory)][::2] == ["x", "y"]


async def test_a_torn_end_is_set_aside_and_the_chain_goes_on_over_it(directory: Path) -> None:
    await write(directory, some(5))
    segment = segments_in(directory)[-1]
    with segment.open("ab") as file:
        file.write(b'{"seq":7,"at":"20')
    await write(directory, some(5))

    assert found_in(directory).faults == []
    assert "audit.torn" in {record["kind"] for record in read(directory)}


def test_a_log_whose_process_was_killed_is_whole_before_and_after_the_next_start(directory: Path) -> None:
    program = """
import asyncio, pathlib, sys
from regate_adapters.audit.checkpoints import Checkpointing
from regate_adapters.audit.log import SegmentedAuditLog
from regate_adapters.audit.signing import read_signing_key

async def main():
    place = pathlib.Path(sys.argv[1])
    key = read_signing_key("11" * 32, setting="")
    making = Checkpointing(key, place / "checkpoints.jsonl", every_records=50)
    async with SegmentedAuditLog.open(place, rotate_bytes=20_000, checkpoints=making) as log:
        while True:
            await asyncio.gather(*(log.record({"kind": "x", "padding": "x" * 300}) for _ in range(7)))
            print("on", flush=True)

asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", program, str(directory)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(60):
            process.stdout.readline()
        process.kill()
    killed = found_in(directory)
    asyncio.run(write(directory, some(3)))
    after = found_in(directory)

    assert (killed.faults, after.faults, after.unsigned) == ([], [], 0)
    assert killed.segments > 2


async def test_a_log_of_before_the_chain_is_said_to_be_unchained_up_to_where_it_begins(
    directory: Path,
) -> None:
    directory.mkdir()
    old = b"".join(b'{"seq":%d,"at":"2026-01-05T12:00:00.000Z","kind":"old"}\n' % seq for seq in range(1, 6))
    (directory / "audit-0000000000000001.jsonl").write_bytes(old)
    await write(directory, some(3))
    found = found_in(directory)

    assert (found.faults, found.first, found.chained_from) == ([], 1, 6)
    assert [record["seq"] for record in read(directory)] == [*range(1, 11)]


def test_a_log_may_begin_with_a_later_segment(copied: Path) -> None:
    first, second, *_ = segments_in(copied)
    first.unlink()
    found = found_in(copied)

    assert (found.faults, found.first) == ([], int(second.stem.removeprefix("audit-")))


async def test_a_new_key_takes_over_and_is_all_that_is_needed_from_then_on(directory: Path) -> None:
    await write(directory, some(5), key=OTHER)
    await write(directory, some(5), key=KEY)

    assert found_in(directory, KEY).faults == []
    assert whats(found_in(directory, OTHER)) == {"key"}


def test_a_line_that_is_being_written_is_no_fault(copied: Path) -> None:
    with segments_in(copied)[-1].open("ab") as file:
        file.write(b'{"seq":')

    assert (found_in(copied).faults, found_in(copied).unfinished_bytes) == ([], 7)


# ---------------------------------------------------------------- what others do to it


def rechained(lines: Sequence[bytes], before: bytes) -> Iterator[bytes]:
    """The lines as a forger without the key leaves them: each naming the one before it."""
    prev = digest_of(before).encode()
    for line in lines:
        head = head_of(line)
        assert head is not None
        assert head.prev is not None
        forged = line.replace(head.prev.encode(), prev, 1)
        prev = digest_of(forged).encode()
        yield forged


def alter_and_chain_again(directory: Path) -> None:
    segments = segments_in(directory)
    before = lines_of(segments[1])[-1]
    for segment in segments[2:]:
        lines = lines_of(segment)
        lines[0] = lines[0].replace(b"x" * 60, b"y" * 60)
        forged = list(rechained(lines, before))
        segment.write_bytes(b"".join(forged))
        before = forged[-1]


def leave_out_checkpoints(directory: Path) -> None:
    """Rewrite the whole log without any signature, numbered and chained anew, as before there were any."""
    kept = [
        line for segment in segments_in(directory) for line in lines_of(segment) if b"checkpoint" not in line
    ]
    for segment in segments_in(directory)[1:]:
        segment.unlink()
    numbered = [b'{"seq":%d,%b' % (seq, line.partition(b",")[2]) for seq, line in enumerate(kept, 1)]
    segments_in(directory)[0].write_bytes(b"".join([numbered[0], *rechained(numbered[1:], numbered[0])]))


def drop_links(directory: Path) -> None:
    """Rewrite the log as of before the chain."""
    for segment in segments_in(directory):
        lines = [
            line[: line.index(b',"prev"')] + line[line.index(b',"prev"') + 74 :] for line in lines_of(segment)
        ]
        segment.write_bytes(b"".join(lines))


def cut_at_a_checkpoint(directory: Path) -> None:
    for segment in segments_in(directory)[-2:]:
        segment.unlink()


def cut_with_the_newest_copies(directory: Path) -> None:
    cut_at_a_checkpoint(directory)
    (directory / _COPIES).unlink()


def remove_a_segment(directory: Path) -> None:
    segments_in(directory)[1].unlink()


def swap_segments(directory: Path) -> None:
    _, second, third, *_ = segments_in(directory)
    content = second.read_bytes()
    second.write_bytes(third.read_bytes())
    third.write_bytes(content)


def rename_a_segment(directory: Path) -> None:
    segment = segments_in(directory)[2]
    segment.rename(segment.with_name("audit-0000000000000999.jsonl"))


def alter_the_last_line(directory: Path) -> None:
    last = segments_in(directory)[-1]
    content = last.read_bytes()
    last.write_bytes(content[:-10] + (b"B" if content[-10:-9] == b"A" else b"A") + content[-9:])


def unmark_the_last_checkpoint(directory: Path) -> None:
    last = segments_in(directory)[-1]
    content = last.read_bytes()
    place = content.rindex(b"audit.checkpoint")
    last.write_bytes(content[:place] + b"X" + content[place + 1 :])


def repeat_a_segment(directory: Path) -> None:
    first, *_, last = segments_in(directory)
    last.write_bytes(last.read_bytes() + first.read_bytes())


@pytest.mark.parametrize(
    ("tamper", "expected"),
    [
        (alter_and_chain_again, {"signature", "altered"}),
        (leave_out_checkpoints, {"unsigned", "altered", "cut"}),
        (drop_links, {"unchained"}),
        (cut_at_a_checkpoint, {"cut"}),
        (cut_with_the_newest_copies, {"copies"}),
        (remove_a_segment, {"missing"}),
        (swap_segments, {"missing", "order"}),
        (rename_a_segment, {"missing", "order"}),
        (alter_the_last_line, {"signature", "altered"}),
        (unmark_the_last_checkpoint, {"altered"}),
        (repeat_a_segment, {"order"}),
    ],
)
def test_what_was_done_to_the_log_is_found_and_named(
    copied: Path, tamper: Callable[[Path], None], expected: set[str]
) -> None:
    tamper(copied)
    found = found_in(copied)

    assert not found.is_whole
    assert whats(found) & expected
    assert all(fault.says and fault.file for fault in found.faults)


def test_a_log_that_another_key_signed_is_not_taken(copied: Path) -> None:
    assert whats(found_in(copied, OTHER)) == {"key", "unsigned"}


def test_the_first_signature_that_fails_says_where_the_forgery_begins(copied: Path) -> None:
    alter_and_chain_again(copied)
    found = found_in(copied, copies=False)
    failing = next(fault for fault in found.faults if fault.what == "signature")

    assert failing.file == segments_in(copied)[2].name
    assert found.signed_to is not None
    assert found.signed_to < int(segments_in(copied)[2].stem.removeprefix("audit-"))


def test_a_tail_that_ought_to_have_been_signed_is_a_fault(directory: Path) -> None:
    times = iter(range(1_795_000_000, 1_795_900_000, 600))
    asyncio.run(write(directory, some(3), clock=lambda: float(next(times))))
    asyncio.run(unsigned(directory, clock=lambda: float(next(times))))

    assert whats(found_in(directory)) == {"unsigned"}


async def unsigned(directory: Path, **more: Any) -> None:
    async with SegmentedAuditLog.open(directory, **more) as log:
        for record in some(3):
            await log.record(record)


def edits() -> st.SearchStrategy[Callable[[bytearray], None]]:
    """Edits of the bytes of a segment that leave it different from what it was."""
    place = st.floats(0, 1, exclude_max=True)

    def flip(at: float, bit: int) -> Callable[[bytearray], None]:
        def edit(content: bytearray) -> None:
            content[int(at * len(content))] ^= 1 << bit

        return edit

    def on_lines(change: Callable[[list[bytes], int, int], None], at: float, to: float) -> Any:
        def edit(content: bytearray) -> None:
            lines = bytes(content).splitlines(keepends=True)
            change(lines, int(at * len(lines)), int(to * len(lines)))
            content[:] = b"".join(lines)

        return edit

    def remove(lines: list[bytes], at: int, _: int) -> None:
        del lines[at]

    def swap(lines: list[bytes], at: int, to: int) -> None:
        to = to if to != at else (at + 1) % len(lines)
        lines[at], lines[to] = lines[to], lines[at]

    def repeat(lines: list[bytes], at: int, to: int) -> None:
        lines.insert(to, lines[at])

    def insert(lines: list[bytes], at: int, _: int) -> None:
        lines.insert(at, b'{"seq":1,"at":"2026-01-05T12:00:00.000Z","kind":"forged"}\n')

    def truncate(at: float) -> Callable[[bytearray], None]:
        def edit(content: bytearray) -> None:
            del content[int(at * len(content)) :]

        return edit

    return st.one_of(
        st.builds(flip, place, st.integers(0, 7)),
        st.builds(truncate, place),
        *(st.builds(on_lines, st.just(change), place, place) for change in (remove, swap, repeat, insert)),
    )


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), edits())
def test_no_edit_of_any_segment_goes_unnoticed(original: Path, data: st.DataObject, edit: Any) -> None:
    segments = segments_in(original)
    segment = data.draw(st.sampled_from(segments))
    before = segment.read_bytes()
    content = bytearray(before)
    edit(content)
    try:
        segment.write_bytes(content)
        found = found_in(original)
    finally:
        segment.write_bytes(before)

    if segment == segments[0] and not content:
        return  # an old segment may be deleted: the log begins later
    assert not found.is_whole


def test_the_log_was_left_as_it_was(original: Path) -> None:
    assert found_in(original).is_whole


def test_a_copy_that_was_cut_off_takes_no_other_with_it(copied: Path) -> None:
    copies = copied / _COPIES
    os.truncate(copies, copies.stat().st_size - 30)
    asyncio.run(write(copied, some(2)))
    found = found_in(copied)

    assert (found.faults, found.unreadable_copies) == ([], 1)


async def test_a_log_that_was_cut_while_its_gateway_was_away_says_so_at_the_next_start(copied: Path) -> None:
    before = found_in(copied).last
    cut_at_a_checkpoint(copied)
    async with SegmentedAuditLog.open(copied, checkpoints=making(copied)) as log:
        await until(lambda: any(record["kind"] == "audit.cut" for record in read(copied)))
        await log.record({"kind": "x"})
    told = [record for record in read(copied) if record["kind"] == "audit.cut"]

    assert [record["signed"] for record in told] == [before]
    assert whats(found_in(copied)) & {"altered", "cut"}  # and it stays found
