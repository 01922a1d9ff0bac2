"""What verifying an audit log finds: plain values. How it is found, `verifying.py` says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

What: TypeAlias = Literal[
    "altered", "missing", "order", "unreadable", "unchained", "unsigned", "signature", "key", "cut", "copies"
]

_MOST_FAULTS: Final = 100


@dataclass(frozen=True, slots=True)
class Fault:
    """One place where the log is not what was written: a line of a segment, or of the copies of
    checkpoints. Line 0 is the whole file.
    """

    what: What
    says: str
    file: str
    line: int
    seq: int | None = None


@dataclass(slots=True)
class Findings:
    """What was found. Where it `is_whole`, every record from `chained_from` to `signed_to` is as it was
    written. What comes after `signed_to` is chained, and could be cut or rewritten unseen.
    """

    segments: int = 0
    records: int = 0
    first: int | None = None
    last: int | None = None
    last_at: str = ""
    chained_from: int | None = None
    signed_to: int | None = None
    signed_at: str = ""
    every_s: int = 0
    unfinished_bytes: int = 0
    copies: int = 0
    unreadable_copies: int = 0
    fault_count: int = 0
    faults: list[Fault] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Return whether nothing is wrong."""
        return not self.fault_count

    @property
    def unsigned(self) -> int:
        """Return how many records no checkpoint vouches for yet."""
        if self.signed_to is None or self.last is None:
            return self.records
        return max(0, self.last - self.signed_to)

    def add(self, fault: Fault) -> None:
        """Note a fault. All are counted, and the first hundred kept."""
        self.fault_count += 1
        if len(self.faults) < _MOST_FAULTS:
            self.faults.append(fault)
