"""The audit log: what was recorded is there, once, in order and without gaps, whatever happens to the
process or the disk.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from regate_adapters.audit.log import SegmentedAuditLog
from regate_adapters.audit.reading import AuditLogReader, read
from regate_orchestrator.errors import AuditUnavailable, ConfigurationError

_RECORD_UNTIL_KILLED = """
import asyncio, pathlib, sys
from regate_adapters.audit.log import SegmentedAuditLog

async def write(log, writer):
    for number in range(1_000_000):
        await log.record({"writer": writer, "number": number, "padding": "x" * 500})
        print(f"{writer}/{number}", flush=True)

async def main():
    async with SegmentedAuditLog.open(pathlib.Path(sys.argv[1]), rotate_bytes=20_000) as log:
        async with asyncio.TaskGroup() as group:
            for writer in range(8):
                group.create_task(write(log, writer))

asyncio.run(main())
"""


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Let no file grow past this size: a write across it is cut short, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def numbers_in(directory: Path) -> list[int]:
    return [record["seq"] for record in read(directory)]


def files_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("audit-*"))


async def record_each(directory: Path, *records: dict[str, Any], **options: Any) -> None:
    async with SegmentedAuditLog.open(directory, **options) as log:
        for record in records:
            await log.record(record)


# ---------------------------------------------------------------- records


async def test_what_its_user_raises_is_raised_as_it_was(directory: Path) -> None:
    with pytest.raises(ConfigurationError, match="of the user's"):
        async with SegmentedAuditLog.open(directory):
            raise ConfigurationError("of the user's")


async def test_record_is_in_the_file_when_the_call_returns(directory: Path) -> None:
    async with SegmentedAuditLog.open(directory, clock=lambda: 1_795_000_000.25) as log:
        await log.record({"kind": "decisions", "request_id": "req_1", "nested": {"list": [1, None, True]}})
        lines = (directory / files_in(directory)[0]).read_bytes().splitlines()
    assert lines == [
        (
            b'{"seq":1,"at":"2026-11-18T11:06:40.250Z","prev":"%s","kind":"decisions","request_id":"req_1",'
            b'"nested":{"list":[1,null,true]}}' % (b"0" * 64)
        ),
    ]


@pytest.mark.parametrize("durable", [True, False])
async def test_records_made_at_once_are_all_there_once_and_numbered_without_gaps(
    directory: Path, durable: bool
) -> None:
    async with SegmentedAuditLog.open(directory, durable=durable, rotate_bytes=3_000) as log:
        await asyncio.gather(*(log.record({"name": name}) for name in range(500)))
        await asyncio.gather(*(log.record({"name": name}) for name in range(500, 600)))
    records = list(read(directory))
    assert ([record["seq"] for record in records], [record["name"] for record in records]) == (
        list(range(1, 601)),
        list(range(600)),
    )


async def test_record_cannot_choose_its_number_or_time(directory: Path) -> None:
    await record_each(directory, {"seq": 77, "at": "never", "prev": "none", "kind": "x"}, {})
    records = list(read(directory))
    assert [(record["seq"], record["at"] != "never", record.get("kind")) for record in records] == [
        (1, True, "x"),
        (2, True, None),
    ]
    assert records[0]["prev"] == "0" * 64


HOSTILE = [
    "a\r\nb",
    '"}\n{"seq":9,"forged":true}',
    "\x1b[2J\x1b[31mred",
    "\u2028\u2029\x85\x0b\x0c",
    "\x7f\x9b31m",
    "\u202egnp.exe\u2066",
    "\x00",
    "\ufeff\u200b",
    "é😀",
    "\ud800",
    2**70,
]


@pytest.mark.parametrize("value", HOSTILE, ids=ascii)
async def test_hostile_value_stays_in_its_line_and_comes_back_as_it_was(directory: Path, value: Any) -> None:
    await record_each(directory, {"value": value, f"key {value}": [value]}, {"after": True})
    text = "".join((directory / name).read_text(encoding="utf-8") for name in files_in(directory))
    unprintable = [character for character in text if character != "\n" and not character.isprintable()]
    first, second = read(directory)
    assert (len(text.splitlines()), unprintable, first["value"], first[f"key {value}"], second["seq"]) == (
        2,
        [],
        value,
        [value],
        2,
    )


@pytest.mark.parametrize("value", [object(), b"bytes", {1: object()}])
async def test_what_is_not_json_is_refused_and_uses_no_number(directory: Path, value: object) -> None:
    async with SegmentedAuditLog.open(directory) as log:
        with pytest.raises(AuditUnavailable):
            await log.record({"value": value})  # type: ignore[dict-item] — the point of the test
        await log.record({"kind": "next"})
    assert numbers_in(directory) == [1]


async def test_records_of_one_request_or_response_are_found(directory: Path) -> None:
    await record_each(
        directory,
        {"request_id": "req_1", "response_id": "resp_1"},
        {"request_id": "req_2", "response_id": "resp_1"},
        {"request_id": "req_1"},
        {"kind": "other"},
    )
    found = [
        read(directory, request_id="req_1"),
        read(directory, response_id="resp_1"),
        read(directory, request_id="req_1", response_id="resp_1"),
    ]
    assert [[record["seq"] for record in records] for records in found] == [[1, 3], [1, 2], [1]]


# ---------------------------------------------------------------- files


async def test_log_is_readable_by_its_user_alone(directory: Path) -> None:
    await record_each(directory, {"kind": "x"})
    modes = {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    assert (stat.S_IMODE(directory.stat().st_mode), modes) == (0o700, {0o600})


async def test_numbers_go_on_after_a_restart(directory: Path) -> None:
    for name in range(3):
        await record_each(directory, {"name": name}, {"name": name})
    assert (numbers_in(directory), files_in(directory)) == (
        [1, 2, 3, 4, 5, 6],
        ["audit-0000000000000001.jsonl"],
    )


async def test_full_segment_is_followed_by_one_named_for_its_first_number(directory: Path) -> None:
    await record_each(directory, *({"padding": "x" * 60} for _ in range(5)), rotate_bytes=300)
    await record_each(directory, {"kind": "again"}, rotate_bytes=300)
    assert (files_in(directory), numbers_in(directory)) == (
        ["audit-0000000000000001.jsonl", "audit-0000000000000003.jsonl", "audit-0000000000000005.jsonl"],
        [1, 2, 3, 4, 5, 6],
    )


async def test_segment_that_was_begun_and_never_written_keeps_its_number(directory: Path) -> None:
    await record_each(directory, {"kind": "x"}, {"kind": "x"})
    (directory / "audit-0000000000000003.jsonl").touch()
    await record_each(directory, {"kind": "y"})
    assert numbers_in(directory) == [1, 2, 3]


async def test_removed_segment_is_noticed_before_the_next_record(directory: Path) -> None:
    async with SegmentedAuditLog.open(directory) as log:
        await log.record({"kind": "x"})
        (directory / "audit-0000000000000001.jsonl").unlink()
        await log.record({"kind": "y"})
    assert numbers_in(directory) == [2]


@pytest.mark.parametrize(
    "torn",
    [b'{"seq":3,"at":"20', b"\x00" * 700, b'{"seq":3,"at":"x"}', b"\n", b'not json\n{"seq":"4"}\n'],
    ids=ascii,
)
async def test_half_written_end_is_set_aside_reported_and_its_number_used_again(
    directory: Path, torn: bytes
) -> None:
    await record_each(directory, {"kind": "x"}, {"kind": "x"})
    segment = directory / "audit-0000000000000001.jsonl"
    segment.write_bytes(segment.read_bytes() + torn)
    await record_each(directory, {"kind": "y"})
    kinds = [(record["seq"], record["kind"], record.get("bytes")) for record in read(directory)]
    assert (kinds[2:], segment.with_suffix(".torn").read_bytes()) == (
        [(3, "audit.torn", len(torn)), (4, "y", None)],
        torn,
    )


async def test_segment_that_holds_no_whole_record_goes_on_from_its_name(directory: Path) -> None:
    await record_each(directory, {"kind": "x"})
    (directory / "audit-0000000000000002.jsonl").write_bytes(b'{"seq":2,')
    await record_each(directory, {"kind": "y"})
    assert [(record["seq"], record["kind"]) for record in read(directory)] == [
        (1, "x"),
        (2, "audit.torn"),
        (3, "y"),
    ]


async def test_reader_leaves_out_a_line_that_is_still_being_written(directory: Path) -> None:
    await record_each(directory, {"kind": "x"})
    segment = directory / "audit-0000000000000001.jsonl"
    segment.write_bytes(segment.read_bytes() + b'{"seq":2,"at"')
    assert numbers_in(directory) == [1]


async def test_reader_goes_on_where_a_segment_is_deleted_meanwhile(directory: Path) -> None:
    async with SegmentedAuditLog.open(directory, rotate_bytes=1) as log:
        for _ in range(4):
            await log.record({"kind": "x"})
    records = AuditLogReader(directory).more()

    first = next(records)["seq"]
    for number in (2, 3):
        (directory / f"audit-{number:016d}.jsonl").unlink()

    assert [first, *(record["seq"] for record in records)] == [1, 4]


async def test_directory_serves_one_process_at_a_time(directory: Path) -> None:
    async with SegmentedAuditLog.open(directory):
        with pytest.raises(ConfigurationError, match="in use by another process"):
            async with SegmentedAuditLog.open(directory):
                pass
    await record_each(directory, {"kind": "free again"})
    assert numbers_in(directory) == [1]


async def test_directory_that_cannot_be_used_is_refused(directory: Path) -> None:
    directory.write_text("a file")
    with pytest.raises(ConfigurationError, match=r"audit\.path"):
        async with SegmentedAuditLog.open(directory):
            pass


async def test_segment_that_leads_elsewhere_is_not_followed(directory: Path) -> None:
    directory.mkdir()
    (directory / "audit-0000000000000001.jsonl").symlink_to("/dev/null")
    with pytest.raises(ConfigurationError):
        async with SegmentedAuditLog.open(directory):
            pass


async def test_closed_log_refuses(directory: Path) -> None:
    async with SegmentedAuditLog.open(directory) as log:
        pass
    with pytest.raises(AuditUnavailable):
        await log.record({"kind": "late"})


async def test_what_was_handed_over_before_the_end_is_written(directory: Path) -> None:
    async with SegmentedAuditLog.open(directory) as log, asyncio.TaskGroup() as group:
        for name in range(50):
            group.create_task(log.record({"name": name}))
    assert len(numbers_in(directory)) == 50


async def test_caller_who_leaves_disturbs_no_other(directory: Path) -> None:
    async with SegmentedAuditLog.open(directory, deadline_s=60) as log:
        tasks = [
            asyncio.wait_for(log.record({"name": name}), timeout=0.000_1 if name % 2 else 60)
            for name in range(60)
        ]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await log.record({"name": "last"})
    stayed = {name for name in range(60) if results[name] is None}
    written = {record["name"] for record in read(directory)}
    assert (
        stayed >= set(range(0, 60, 2)),
        stayed <= written,
        numbers_in(directory) == list(range(1, len(written) + 1)),
    ) == (
        True,
        True,
        True,
    )


# ---------------------------------------------------------------- failures


async def test_full_disk_refuses_every_caller_and_leaves_no_half_line_and_no_gap(directory: Path) -> None:
    segment = directory / "audit-0000000000000001.jsonl"
    async with SegmentedAuditLog.open(directory) as log:
        await log.record({"kind": "before"})
        before = segment.read_bytes()
        with full_disk(len(before) + 100):
            outcomes = await asyncio.gather(
                *(log.record({"padding": "x" * 90}) for _ in range(5)), return_exceptions=True
            )
        during = segment.read_bytes()
        await log.record({"kind": "after"})
    refused = [type(outcome) for outcome in outcomes]
    assert (refused, during == before, numbers_in(directory), log.lost) == (
        [AuditUnavailable] * 5,
        True,
        [1, 2],
        0,
    )


async def test_half_line_that_cannot_be_taken_back_stops_the_log_until_it_can(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, length: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    async with SegmentedAuditLog.open(directory) as log:
        await log.record({"kind": "before"})
        with monkeypatch.context() as patched:
            patched.setattr(os, "ftruncate", refuse)
            with (
                full_disk((directory / "audit-0000000000000001.jsonl").stat().st_size + 20),
                pytest.raises(AuditUnavailable),
            ):
                await log.record({"kind": "half"})
            with pytest.raises(AuditUnavailable):
                await log.record({"kind": "stopped"})
        await log.record({"kind": "after"})
    lines = (directory / "audit-0000000000000001.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["before", "after"]


async def test_counted_losses_are_told_of_as_soon_as_writing_works_again(directory: Path) -> None:
    async with SegmentedAuditLog.open(directory, on_failure="count") as log:
        await log.record({"kind": "before"})
        with full_disk((directory / "audit-0000000000000001.jsonl").stat().st_size + 20):
            for _ in range(3):
                await log.record({"kind": "lost"})
        await log.record({"kind": "after"})
        await log.record({"kind": "later"})
    kinds = [(record["seq"], record["kind"], record.get("lost")) for record in read(directory)]
    assert (kinds, log.lost) == (
        [(1, "before", None), (2, "gap", 3), (3, "after", None), (4, "later", None)],
        3,
    )


async def test_losses_are_told_of_at_the_end_when_nothing_more_is_recorded(directory: Path) -> None:
    async with SegmentedAuditLog.open(directory, on_failure="count") as log:
        with full_disk(20):
            await log.record({"kind": "lost"})
    assert [(record["seq"], record["kind"], record["lost"]) for record in read(directory)] == [(1, "gap", 1)]


async def test_record_that_takes_too_long_is_refused_and_leaves_no_gap(directory: Path) -> None:
    async with SegmentedAuditLog.open(directory, deadline_s=0) as log:
        outcomes = await asyncio.gather(
            *(log.record({"name": name}) for name in range(20)), return_exceptions=True
        )
    numbers = numbers_in(directory)
    assert ([type(outcome) for outcome in outcomes], numbers) == (
        [AuditUnavailable] * 20,
        list(range(1, len(numbers) + 1)),
    )


async def test_record_written_after_its_deadline_is_not_counted_as_lost(directory: Path) -> None:
    async with SegmentedAuditLog.open(directory, deadline_s=0, on_failure="count") as log:
        for name in range(50):
            await asyncio.gather(*(log.record({"name": (name, part)}) for part in range(4)))
    records = list(read(directory))
    told = sum(record.get("lost", 0) for record in records)
    assert (told, len([record for record in records if "name" in record]) + log.lost) == (log.lost, 200)


async def test_segment_that_cannot_be_begun_refuses_and_recovers(directory: Path) -> None:
    async with SegmentedAuditLog.open(directory, rotate_bytes=1) as log:
        await log.record({"kind": "first"})
        obstacle = directory / "audit-0000000000000002.jsonl"
        obstacle.mkdir()
        with pytest.raises(AuditUnavailable):
            await log.record({"kind": "refused"})
        obstacle.rmdir()
        await log.record({"kind": "second"})
    assert [(record["seq"], record["kind"]) for record in read(directory)] == [(1, "first"), (2, "second")]


def test_records_are_there_after_the_process_was_killed(directory: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _RECORD_UNTIL_KILLED, str(directory)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        acknowledged = [process.stdout.readline().strip() for _ in range(400)]
        process.send_signal(signal.SIGKILL)
        acknowledged += process.stdout.read().split()
    records = list(read(directory))
    written = {f"{record['writer']}/{record['number']}" for record in records}
    numbers = [record["seq"] for record in records]
    assert (set(acknowledged) <= written, numbers, len(files_in(directory)) > 2) == (
        True,
        list(range(1, len(records) + 1)),
        True,
    )


async def test_log_goes_on_after_its_process_was_killed(directory: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _RECORD_UNTIL_KILLED, str(directory)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    await record_each(directory, {"kind": "after"})
    numbers = numbers_in(directory)
    assert (numbers, list(read(directory))[-1]["kind"]) == (list(range(1, len(numbers) + 1)), "after")


def test_every_line_is_json_by_itself(directory: Path) -> None:
    asyncio.run(record_each(directory, *({"value": value} for value in HOSTILE)))
    lines = [line for name in files_in(directory) for line in (directory / name).read_bytes().splitlines()]
    assert [json.loads(line)["value"] for line in lines] == HOSTILE
