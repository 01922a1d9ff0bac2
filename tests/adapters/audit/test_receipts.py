"""A receipt is found again as long as its record is in the log as it was, and not otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from regate_adapters.audit.checkpoints import Checkpointing
from regate_adapters.audit.lines import Position
from regate_adapters.audit.log import SegmentedAuditLog
from regate_adapters.audit.receipts import LookedUp, look_up, read_receipt
from regate_adapters.audit.segments import segments_in
from regate_adapters.audit.signing import SigningKey, read_signing_key

KEY = read_signing_key("11" * 32, setting="test")
OTHER = read_signing_key("22" * 32, setting="test")


async def recorded(directory: Path, count: int, *, signed: bool = True, **more: object) -> list[Position]:
    given: list[Position] = []
    making = Checkpointing(KEY, directory / "checkpoints.jsonl", every_records=5) if signed else None
    async with SegmentedAuditLog.open(
        directory,
        durable=False,
        rotate_bytes=1_500,
        checkpoints=making,
        on_written=given.append,
        **more,  # type: ignore[arg-type]
    ) as log:
        for number in range(count):
            await log.record({"kind": "x", "request_id": f"req_{number}"})
    return given


def looked_up(directory: Path, position: Position, key: SigningKey = KEY) -> LookedUp:
    receipt = read_receipt(position.receipt)
    assert receipt is not None
    return look_up(directory, receipt, {key.public.id: key.public})


def test_every_record_of_several_segments_is_found_with_the_checkpoint_that_follows_it(
    directory: Path,
) -> None:
    given = asyncio.run(recorded(directory, 30))
    found = [looked_up(directory, position) for position in given]

    assert len(segments_in(directory)) > 3
    assert {one.outcome for one in found} == {"signed"}
    assert [one.record and one.record["request_id"] for one in found] == [
        f"req_{place}" for place in range(30)
    ]
    for position, one in zip(given, found, strict=True):
        assert one.checkpoint is not None
        assert position.seq < one.checkpoint.seq <= position.seq + 5


@pytest.mark.parametrize(
    "tamper",
    [
        lambda content: content.replace(b"req_12", b"req_99"),
        lambda content: b"".join(line for line in content.splitlines(keepends=True) if b"req_12" not in line),
    ],
    ids=["altered", "removed"],
)
def test_a_record_that_is_not_as_it_was_is_not_found(
    directory: Path, tamper: Callable[[bytes], bytes]
) -> None:
    given = asyncio.run(recorded(directory, 30))
    for segment in segments_in(directory):
        segment.write_bytes(tamper(segment.read_bytes()))

    assert looked_up(directory, given[12]).outcome == "absent"
    assert looked_up(directory, given[20]).outcome == "signed"


def test_a_record_after_which_the_chain_breaks_has_no_checkpoint_that_vouches_for_it(directory: Path) -> None:
    given = asyncio.run(recorded(directory, 30))
    for segment in segments_in(directory):
        segment.write_bytes(segment.read_bytes().replace(b"req_12", b"req_99"))

    assert looked_up(directory, given[11]).outcome == "unsigned"


def test_without_checkpoints_or_their_key_a_record_is_there_and_unsigned(directory: Path) -> None:
    (first, *_) = asyncio.run(recorded(directory, 3, signed=False))
    assert looked_up(directory, first).outcome == "unsigned"

    (other, *_) = asyncio.run(recorded(directory, 3))
    assert looked_up(directory, other, OTHER).outcome == "unsigned"
    assert looked_up(directory, first).outcome == "signed"  # by a checkpoint that came later


def test_a_clock_that_was_put_back_hides_no_record(directory: Path) -> None:
    times = iter([*(1_795_000_900.0 - 60 * number for number in range(40))])
    given = asyncio.run(recorded(directory, 30, clock=lambda: next(times)))

    assert {looked_up(directory, position).outcome for position in given} == {"signed"}


@pytest.mark.parametrize(
    "text", ["", "42", "42.ab", "2026-11-29T14:39:18.489Z/", "x" * 200, "../etc/" + "a" * 64]
)
def test_what_is_no_receipt_is_none(text: str) -> None:
    assert read_receipt(text) is None
