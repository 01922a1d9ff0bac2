"""Looking up a receipt: whether the record that it names is in the log as it was, and which checkpoint
vouches for it. Whether the whole log is as it was, `verifying.py` says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from regate_adapters.audit.checkpoints import MARK, Checkpoint, read_checkpoint
from regate_adapters.audit.lines import digest_of, head_of, read_line
from regate_adapters.audit.segments import segments_in
from regate_adapters.audit.signing import PublicKey

Outcome: TypeAlias = Literal["signed", "unsigned", "absent"]

_RECEIPT: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{3}Z)/([0-9a-f]{64})")
_HEAD_BYTES: Final = 80


@dataclass(frozen=True, slots=True)
class Receipt:
    """The time of a record, as the log has it, and the digest of its line."""

    at: str
    digest: str


@dataclass(frozen=True, slots=True)
class LookedUp:
    """What is known of a receipt: `signed` when a checkpoint vouches for its record, `unsigned` when the
    record is there and none does (yet), else `absent`.
    """

    outcome: Outcome
    record: Mapping[str, Any] | None = None
    checkpoint: Checkpoint | None = None


def read_receipt(text: str) -> Receipt | None:
    """Return what the receipt names; None when it is none."""
    found = _RECEIPT.fullmatch(text.strip())
    return None if found is None else Receipt(found[1], found[2])


def look_up(directory: Path, receipt: Receipt, keys: Mapping[str, PublicKey]) -> LookedUp:
    """Return what the log says of the receipt. Raises `OSError`.

    The chain is followed from the record to the next checkpoint that one of the keys signed, and no further.
    """
    segments = segments_in(directory)
    likely = _likely(segments, receipt.at)
    found = _look_up(segments[likely:], receipt, keys)
    if found.outcome == "absent" and likely:  # a clock that was put back
        found = _look_up(segments, receipt, keys)
    return found


def _likely(segments: Sequence[Path], at: str) -> int:
    """Return the place of the last segment that begins before this time."""
    place = 0
    for number, segment in enumerate(segments):
        with segment.open("rb") as file:
            head = head_of(file.readline())
        if head is not None and head.at < at:
            place = number
    return place


def _look_up(segments: Sequence[Path], receipt: Receipt, keys: Mapping[str, PublicKey]) -> LookedUp:
    record: Mapping[str, Any] | None = None
    needle, tip = receipt.at.encode(), ""
    for line in _lines(segments):
        if record is None:
            if line.find(needle, 0, _HEAD_BYTES) < 0 or digest_of(line) != receipt.digest:
                continue
            record = read_line(line)
        elif (head := head_of(line)) is None or head.prev != tip:
            break
        tip = digest_of(line)
        checkpoint = read_checkpoint(line) if MARK in line else None
        if checkpoint is not None and _is_signed(checkpoint, keys):
            return LookedUp("signed", record, checkpoint)
    return LookedUp("absent" if record is None else "unsigned", record)


def _is_signed(checkpoint: Checkpoint, keys: Mapping[str, PublicKey]) -> bool:
    key = keys.get(checkpoint.key)
    return key is not None and checkpoint.signed_by(key)


def _lines(segments: Sequence[Path]) -> Iterator[bytes]:
    for segment in segments:
        with segment.open("rb") as file:
            yield from file
