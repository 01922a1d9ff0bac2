"""Whether an audit log is what its gateway wrote: every line follows from the one before it, and checkpoints
vouch for the chain.

One pass over the lines, which are hashed and not parsed. The log may begin anywhere, since old segments are
deleted, and with lines of before there was a chain; from there on it must be whole. Where the chain holds,
the last checkpoint vouches for all before it: one signature is verified, and each only where that one fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeAlias

from regate_adapters.audit.checkpoints import MARK, Checkpoint, copies_in, read_checkpoint
from regate_adapters.audit.findings import Fault, Findings, What
from regate_adapters.audit.lines import BEGINNING, digest_of, head_of
from regate_adapters.audit.segments import first_number, segments_in
from regate_adapters.audit.signing import PublicKey

Progress: TypeAlias = Callable[[int, int], None]
"""Is told how many records, and how many bytes, were verified so far."""

_PROGRESS_RECORDS: Final = 50_000
_HEAD_BYTES: Final = 200
_TIME_BYTES: Final = 24
_SLACK_SECONDS: Final = 30.0


def verify(
    directory: Path,
    keys: Mapping[str, PublicKey],
    *,
    copies: Path | None,
    progress: Progress | None = None,
) -> Findings:
    """Return what is found in the log, verified by these keys, which are named by their ids, and against the
    copies of its checkpoints. Without these nothing is said of a log that was cut. Raises `OSError`.
    """
    found = _verification(directory, keys, copies, progress, each=False)
    if any(fault.what in ("signature", "key") for fault in found.faults):
        found = _verification(directory, keys, copies, progress, each=True)
    return found


def _verification(
    directory: Path,
    keys: Mapping[str, PublicKey],
    copies: Path | None,
    progress: Progress | None,
    *,
    each: bool,
) -> Findings:
    copied = None if copies is None else _Copies(copies)  # first, so that they are never ahead of the log
    return _Verification(keys, copied, progress, each=each).of(directory)


class _Copies:
    """The copies of checkpoints: the digest of each, and its line, by its number, until the log has it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = self.unreadable = 0
        self.left: dict[int, tuple[str, int]] = {}
        if not path.exists():
            return
        for number, line, checkpoint in copies_in(path):
            if checkpoint is None:  # cut off when its gateway was: as good as absent
                self.unreadable += 1
            else:
                self.count += 1
                self.left[checkpoint.seq] = (digest_of(line), number)

    def meet(self, seq: int, digest: str) -> None:
        """Take a checkpoint of the log in."""
        if self.left.get(seq, ("", 0))[0] == digest:
            del self.left[seq]

    def read(self, numbers: set[int]) -> list[tuple[int, Checkpoint]]:
        """Return the checkpoints on these lines."""
        return [
            (number, checkpoint)
            for number, _, checkpoint in (copies_in(self.path) if numbers else ())
            if number in numbers and checkpoint is not None
        ]


@dataclass(frozen=True, slots=True)
class _Met:
    """A checkpoint of the log, and where it stands."""

    checkpoint: Checkpoint
    file: str
    line: int


class _Verification:
    """One pass over a log."""

    def __init__(
        self, keys: Mapping[str, PublicKey], copies: _Copies | None, progress: Progress | None, *, each: bool
    ) -> None:
        self._keys = keys
        self._copies = copies
        self._progress = progress
        self._each = each
        self._found = Findings()
        self._segment = ""
        self._next = 0
        self._tip = b""
        self._last_line = b""
        self._latest: _Met | None = None
        self._bytes = 0

    def of(self, directory: Path) -> Findings:
        """Return what is found."""
        segments = segments_in(directory)
        self._found.segments = len(segments)
        for segment in segments:
            self._take_segment(segment, is_last=segment == segments[-1])
        self._end_run()
        self._check_end(directory)
        if self._copies is not None:
            self._check_copies(self._copies)
        return self._found

    def _take_segment(self, segment: Path, *, is_last: bool) -> None:
        found, self._segment = self._found, segment.name
        named, number, line = first_number(segment), 0, b""
        self._next = self._next or named
        with segment.open("rb") as file:
            for number, line in enumerate(file, 1):
                if number == 1 and head_of(line) is not None and not line.startswith(b'{"seq":%d,' % named):
                    self._fault(
                        "order", f"the segment is named for record {named}, and begins with another", 1
                    )
                if is_last and not line.endswith(b"\n"):
                    found.unfinished_bytes = len(line)
                    break
                start = b'{"seq":%d,"at":"' % self._next
                place = len(start) + _TIME_BYTES
                if not (
                    line.startswith(start)
                    and line.startswith(b'","prev":"', place)
                    and line.startswith(self._tip, place + 10)
                    and found.chained_from is not None
                ):
                    self._take_strange(line, number)
                digest = sha256(line).hexdigest()
                if line.find(MARK, 0, _HEAD_BYTES) > 0:
                    self._take_checkpoint(line, number, digest)
                self._tip = digest.encode()
                self._last_line = line
                if found.first is None:
                    found.first = self._next
                found.last = self._next
                found.records += 1
                self._bytes += len(line)
                self._next += 1
                if found.records % _PROGRESS_RECORDS == 0:
                    self._tell()
        self._tell()

    def _take_strange(self, line: bytes, number: int) -> None:
        """Look at a line that does not plainly follow from the one before it, and say what is wrong with it,
        if anything is.
        """
        found, head = self._found, head_of(line)
        expected, tip = self._next, self._tip.decode()
        if head is None or not line.endswith(b"}\n"):
            self._fault("unreadable", f"where record {expected} should be is no record", number, expected)
            return
        self._next = head.seq
        if head.seq > expected:
            self._fault("missing", f"records {expected} to {head.seq - 1} are missing before it", number)
        elif head.seq < expected:
            self._fault("order", f"record {head.seq} stands where record {expected} should be", number)
        elif head.prev is None and found.chained_from is not None:
            self._fault(
                "unchained", "it has no link to the record before it, as every record must here", number
            )
        elif head.prev is not None and head.prev != (tip or self._beginning(head.prev)):
            self._fault(
                "altered", "it does not follow from the line before it: one of the two was altered", number
            )
        if head.prev is not None and found.chained_from is None:
            found.chained_from = head.seq

    def _beginning(self, prev: str) -> str:
        """Return what the first line of all must name: record 1 follows nothing; before another anything may
        have been.
        """
        return BEGINNING if self._next == 1 else prev

    def _take_checkpoint(self, line: bytes, number: int, digest: str) -> None:
        checkpoint = read_checkpoint(line)
        if checkpoint is None:
            self._fault("altered", "this checkpoint is not as a gateway writes them", number, self._next)
            return
        if self._each and self._latest is not None and self._latest.checkpoint.key in self._keys:
            self._vouch(self._latest)
        self._latest = _Met(checkpoint, self._segment, number)
        if self._copies is not None:
            self._copies.meet(checkpoint.seq, digest)

    def _end_run(self) -> None:
        """Have what came until here vouched for by its last checkpoint."""
        if self._latest is not None:
            self._vouch(self._latest)
        self._latest = None

    def _vouch(self, met: _Met) -> None:
        checkpoint, found = met.checkpoint, self._found
        if fault := self._unverified(checkpoint):
            found.add(Fault(*fault, met.file, met.line, checkpoint.seq))
            return
        found.signed_to, found.signed_at, found.every_s = checkpoint.seq, checkpoint.at, checkpoint.every_s

    def _unverified(self, checkpoint: Checkpoint) -> tuple[What, str] | None:
        """Return what is wrong with the checkpoint's signature; None when a key vouches for it."""
        key = self._keys.get(checkpoint.key)
        if key is None:
            return "key", f"this checkpoint is signed with the key {checkpoint.key}, which was not given"
        if not checkpoint.signed_by(key):
            return (
                "signature",
                "the signature of this checkpoint does not verify: it, or what is before it, was altered",
            )
        return None

    def _check_end(self, directory: Path) -> None:
        found = self._found
        if not found.records:
            return
        self._segment = directory.name
        head = head_of(self._last_line)
        found.last_at = "" if head is None else head.at
        if found.chained_from is None:
            self._fault("unchained", "no record is chained: nothing can be said of any", 0)
        elif found.signed_to is None:
            self._fault("unsigned", "no checkpoint vouches for any record", 0)
        late = _seconds_between(found.signed_at, found.last_at)
        if found.signed_to is not None and late > 2 * found.every_s + _SLACK_SECONDS:
            says = f"{found.unsigned} records since record {found.signed_to} have had no checkpoint for "
            self._fault("unsigned", f"{says}{late:.0f} s, and one was due after {found.every_s} s", 0)

    def _check_copies(self, copies: _Copies) -> None:
        """Hold the log to the checkpoints that were copied and that it does not have."""
        found = self._found
        found.copies, found.unreadable_copies = copies.count, copies.unreadable
        self._segment = copies.path.name
        if not copies.count and found.signed_to is not None:
            self._fault("copies", "there are no copies of checkpoints, so the log may have been cut", 0)
        first, last = found.first or 1, found.last or 0
        beyond = max((seq for seq in copies.left if seq > last), default=None)
        within = [seq for seq in copies.left if first <= seq <= last]
        numbers = {copies.left[seq][1] for seq in (*within, *(() if beyond is None else (beyond,)))}
        for number, checkpoint in copies.read(numbers):
            what, says = self._unverified(checkpoint) or _not_in_log(checkpoint, last)
            self._fault(what, says, number, checkpoint.seq)

    def _fault(self, what: What, says: str, line: int, seq: int | None = None) -> None:
        """Note a fault; a chain that broke is vouched for up to here."""
        if what in ("altered", "missing", "order", "unchained", "unreadable"):
            self._end_run()
        self._found.add(Fault(what, says, self._segment, line, seq or (self._next if line else None)))

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self._found.records, self._bytes)


def _not_in_log(checkpoint: Checkpoint, last: int) -> tuple[What, str]:
    """Return what it means that a log which ends with record `last` lacks this checkpoint."""
    if checkpoint.seq > last:
        return (
            "cut",
            f"the log ends with record {last}; record {checkpoint.seq} was signed at {checkpoint.at}",
        )
    return "altered", f"record {checkpoint.seq} is not the checkpoint that was signed at {checkpoint.at}"


def _seconds_between(earlier: str, later: str) -> float:
    try:
        return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()
    except ValueError:
        return 0.0
