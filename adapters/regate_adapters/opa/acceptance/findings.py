"""A finding: one thing that is wrong with policies, with its place and a stable code. How findings are gathered and printed is others' business."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `code` is stable; `message` says what is wrong and what to write instead; `row` 0 means the whole file."""

    code: str
    message: str
    file: str
    row: int = 0

    def __str__(self) -> str:
        place = f"{self.file}:{self.row}" if self.row else self.file
        return f"{place}: {self.code}: {self.message}"
