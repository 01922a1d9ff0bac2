"""Checkpoints: records in which the log's own key vouches for every record before them, and the file
beside the log that has a copy of each.

A checkpoint signs its number, its time, and the digest of the line before it, which stands for the whole
chain. So a log whose last record is one can be changed nowhere unseen; the copies tell when it is cut short.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from regate_adapters.audit.lines import line_of, time_of
from regate_adapters.audit.signing import PublicKey, SigningKey

MARK: Final = b'"kind":"audit.checkpoint"'
"""What every checkpoint's own members begin with."""

_LAST_BYTES: Final = 4_096
_STATEMENT: Final = b"regate audit checkpoint, version 1\nseq %d\nat %s\nprev %s\nevery_s %d\n"
_LINE: Final = re.compile(
    rb'\{"seq":(?P<seq>[0-9]{1,18}),"at":"(?P<at>[0-9TZ:.-]{1,40})","prev":"(?P<prev>[0-9a-f]{64})",'
    + MARK
    + rb',"every_s":(?P<every>[0-9]{1,6}),"key":"(?P<key>[0-9a-f]{16})",'
    + rb'"signature":"(?P<signature>[^"]{88})"\}\n'
)


@dataclass(frozen=True, slots=True)
class Checkpointing:
    """How a log makes its checkpoints: with which key, after how many seconds or records at the latest,
    and where their copies go.
    """

    key: SigningKey
    copies: Path
    every_s: int = 60
    every_records: int = 10_000


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint as it was read. Nothing in it is true before its signature is `signed_by` a known key."""

    seq: int
    at: str
    prev: str
    every_s: int
    key: str
    signature: bytes

    def signed_by(self, key: PublicKey) -> bool:
        """Return whether this key vouches for it."""
        statement = _statement(self.seq, self.at, self.prev, self.every_s)
        return key.id == self.key and key.verifies(self.signature, statement)


def checkpoint_line(seq: int, at: float, prev: str, making: Checkpointing) -> bytes:
    """Return the line of a checkpoint, signed."""
    time = time_of(at)
    signature = making.key.sign(_statement(seq, time, prev, making.every_s))
    body = b'%s,"every_s":%d,"key":"%s","signature":"%s"' % (
        MARK,
        making.every_s,
        making.key.public.id.encode(),
        base64.b64encode(signature),
    )
    return line_of(seq, time, prev, body)


def read_checkpoint(line: bytes) -> Checkpoint | None:
    """Return the checkpoint in the line; None where it is anything but one, to the last byte."""
    found = _LINE.fullmatch(line)
    if found is None:
        return None
    try:
        signature = base64.b64decode(found["signature"], validate=True)
    except binascii.Error:
        return None
    if base64.b64encode(signature) != found["signature"]:  # base64 has several spellings of some bytes
        return None
    return Checkpoint(
        seq=int(found["seq"]),
        at=found["at"].decode(),
        prev=found["prev"].decode(),
        every_s=int(found["every"]),
        key=found["key"].decode(),
        signature=signature,
    )


def append_copy(path: Path, line: bytes) -> None:
    """Add the line to the copies; when this returns it is on the disk. Raises `OSError`."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        size = os.fstat(descriptor).st_size
        if (
            size and os.pread(descriptor, 1, size - 1) != b"\n"
        ):  # a copy that was cut off: not with it in one line
            line = b"\n" + line
        if file.write(line) != len(line):
            raise OSError("the copy was cut short")
        os.fsync(descriptor)


def last_copy(path: Path) -> Checkpoint | None:
    """Return the last checkpoint among the copies; None where there is none to be read. Raises `OSError`."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LAST_BYTES))
        found = [read_checkpoint(line) for line in file]
    return next((checkpoint for checkpoint in reversed(found) if checkpoint is not None), None)


def copies_in(path: Path) -> Iterator[tuple[int, bytes, Checkpoint | None]]:
    """Yield each line of the copies with its number, and the checkpoint in it if it is one. Raises
    `OSError`.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            yield number, line, read_checkpoint(line)


def _statement(seq: int, at: str, prev: str, every_s: int) -> bytes:
    return _STATEMENT % (seq, at.encode(), prev.encode(), every_s)
