"""Limits of files: what `regate.file.limits` says a caller may have. The policy gives numbers only;
counting is `uploads.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from regate_orchestrator.errors import NotPermitted, PolicyUnavailable
from regate_orchestrator.values import Json

LIMITS: Final = "limits"
"""The rule of `regate.file` that qualifies an allow of `file.upload`."""
_NAMES: Final = ("max_bytes", "max_files", "max_total_bytes")


@dataclass(frozen=True, slots=True)
class FileLimits:
    """The bytes of one file, and the files and bytes of one principal. 0 is nothing at all."""

    max_bytes: int
    max_files: int
    max_total_bytes: int

    def exhausted(self) -> NotPermitted:
        """Return the refusal of a file for which there is no room. Not 429: clients would send the
        file again and again.
        """
        return NotPermitted(
            (
                f"You may have {self.max_files} files with {self.max_total_bytes} bytes in all, uploads "
                "under way included: delete some first."
            ),
            param="file",
            code="storage_limit_exceeded",
        )


def read_limits(value: Json) -> FileLimits:
    """Return the limits. Raises `PolicyUnavailable` for anything but exactly three whole numbers: a
    limit that is not said is no permission.
    """
    if not isinstance(value, Mapping) or set(value) != set(_NAMES):
        raise PolicyUnavailable("regate/file/limits is not an object of " + ", ".join(_NAMES))
    numbers = [value[name] for name in _NAMES]
    if not all(
        isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in numbers
    ):
        raise PolicyUnavailable("regate/file/limits holds what is no whole number")
    return FileLimits(*[number for number in numbers if isinstance(number, int)])
