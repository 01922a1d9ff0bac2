r"""Server-sent events, taken out of bytes as they arrive. Not what the events mean (`chat_events.py`).

Lines end with `\n`, alone or after `\r`, and with nothing else: Python's own line splitting would also cut at U+2028 and U+0085, which
JSON may hold. Counterpart of the gateway's `sse.py`, which writes events.
"""

from __future__ import annotations

from typing import Final, NamedTuple

_BOM: Final = b"\xef\xbb\xbf"


class EventTooLarge(Exception):
    """One event is larger than the reader's limit; what follows cannot be read."""


class ServerEvent(NamedTuple):
    """One event. `name` is empty where the upstream gave none."""

    name: bytes
    data: bytes


class SseReader:
    """Collects bytes into events. Keeps at most one event, and never more than `limit` bytes of it."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._line: list[bytes] = []
        self._data: list[bytes] = []
        self._name = b""
        self._data_size = 0
        self._line_size = 0
        self._first = True

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """Return the events that these bytes complete. Raises `EventTooLarge`."""
        events: list[ServerEvent] = []
        if self._data or self._name or self._first or b"\n\n" not in chunk:  # in the middle of an event
            self._feed_lines(chunk, events)
            return events
        *blocks, rest = b"".join((*self._line, chunk)).split(b"\n\n")
        self._line, self._line_size = [], 0
        for block in blocks:
            if block.startswith(b"data: ") and b"\n" not in block and b"\r" not in block and len(block) <= self._limit:
                events.append(ServerEvent(b"", block[6:]))  # what nearly every event is: one line of data
            else:
                self._feed_lines(block + b"\n\n", events)
        self._feed_lines(rest, events)
        return events

    def _feed_lines(self, chunk: bytes, events: list[ServerEvent]) -> None:
        if b"\n" not in chunk:  # pieces of one long line are joined once, when it ends
            if chunk:
                self._line.append(chunk)
            self._line_size += len(chunk)
            self._check_size()
            return
        *lines, rest = b"".join((*self._line, chunk)).split(b"\n") if self._line else chunk.split(b"\n")
        self._line = [rest] if rest else []
        self._line_size = len(rest)
        for line in lines:
            self._read(line, events)
        self._check_size()

    def finish(self) -> list[ServerEvent]:
        """Return the last event of a stream that ended without the blank line after it."""
        events: list[ServerEvent] = []
        if self._line:
            self._read(b"".join(self._line), events)
        self._read(b"", events)
        return events

    def _read(self, line: bytes, events: list[ServerEvent]) -> None:
        if line.endswith(b"\r"):
            line = line[:-1]
        if self._first:
            self._first = False
            line = line.removeprefix(_BOM)
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            self._data_size += len(line)
            self._check_size()
        elif not line:
            self._dispatch(events)
        elif line.startswith(b"event:"):
            self._name = line[6:].strip()
        # Comments begin with a colon; `id`, `retry` and unknown fields mean nothing to us.

    def _dispatch(self, events: list[ServerEvent]) -> None:
        if self._data:
            events.append(ServerEvent(self._name, self._data[0] if len(self._data) == 1 else b"\n".join(self._data)))
            self._data = []
            self._data_size = 0
        self._name = b""

    def _check_size(self) -> None:
        if self._data_size + self._line_size > self._limit:
            raise EventTooLarge
