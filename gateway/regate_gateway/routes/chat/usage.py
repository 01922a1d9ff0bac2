"""What an answer that passes through cost: read from its last bytes as they pass, or estimated from their
number. Nothing is held back.

The counterpart for the loop is `regate_orchestrator.quota.metering.MeteredBackend`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import orjson

from regate_orchestrator.quota.metering import Used

_TAIL_BYTES: Final = 4_096
_USAGE: Final = re.compile(rb'"usage"\s*:\s*(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})')
"""An object under the key `usage`. Inside a JSON text every quotation mark is escaped, so no text of a
model can look like it.
"""
_BYTES_PER_TOKEN: Final = 4
_LINES_PER_EVENT: Final = 2
_MAX_TOKENS: Final = 1_000_000_000


class UsageTap:
    """Looks at the bytes of one answer. `sent` is what its request is taken to have cost; `writes`
    says whether the answer is text.
    """

    def __init__(self, *, sent: int, writes: bool, streamed: bool) -> None:
        self._sent = sent
        self._writes = writes
        self._streamed = streamed
        self._tail = b""
        self._bytes = 0
        self._lines = 0

    def note(self, chunk: bytes) -> None:
        """Look at the next bytes."""
        self._bytes += len(chunk)
        self._lines += chunk.count(b"\n")
        self._tail = (
            chunk[-_TAIL_BYTES:]
            if len(chunk) >= _TAIL_BYTES
            else self._tail[len(chunk) - _TAIL_BYTES :] + chunk
        )

    def used(self) -> Used:
        """Return what the answer says that it used, the last word counting; what its size suggests
        where it says nothing.
        """
        reported = _reported(told_usage(self._tail))
        return Used(self._sent, self._estimate()) if reported is None else reported

    def _estimate(self) -> int:
        if not self._writes:
            return 0  # the bytes of an embedding are no tokens
        # A stream is mostly wrapping, and has about a token in an event.
        return self._lines // _LINES_PER_EVENT if self._streamed else self._bytes // _BYTES_PER_TOKEN


def told_usage(tail: bytes) -> Mapping[str, object]:
    """Return the usage that the last bytes of an answer tell, the last word counting; empty where there is
    none.
    """
    end = len(tail)
    while (place := tail.rfind(b'"usage"', 0, end)) >= 0:
        if (found := _USAGE.match(tail, place)) is not None:
            break
        end = place
    else:
        return {}
    try:
        read: Mapping[str, object] = orjson.loads(found.group(1))
    except ValueError:
        return {}
    return read


def _reported(read: Mapping[str, object]) -> Used | None:
    """Return the tokens that a usage counts; None when it counts none. Of a total that is more than its
    parts, or has none, what is not known for input is output.
    """
    total, sent, written = [
        count if type(count) is int and 0 <= count <= _MAX_TOKENS else None
        for count in (read.get(name) for name in ("total_tokens", "prompt_tokens", "completion_tokens"))
    ]
    if total is None:
        return None if sent is None and written is None else Used(sent or 0, written or 0)
    if sent is None:
        sent = max(0, total - (written or 0))
    return Used(min(sent, total), total - min(sent, total))
