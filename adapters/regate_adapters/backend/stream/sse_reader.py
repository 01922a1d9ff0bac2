r"""Server-sent events, taken out of bytes as they arrive: their data. Not what it means (`chat_events.py`);
names, ids and comments are passed over.

Lines end with `\n`, alone or after `\r`, and with nothing else: Python's own line splitting would also cut at
U+2028 and U+0085, which JSON may hold. Counterpart of the gateway's `http/sse.py`, which writes events.
"""

from __future__ import annotations

from typing import Final

MAX_EVENT_BYTES: Final = 4 * 1024 * 1024
"""More than any event of a chat completion has."""
_BOM: Final = b"\xef\xbb\xbf"
_FIELD: Final = b"data: "
_BETWEEN: Final = b"\n\n" + _FIELD


class EventTooLarge(Exception):
    """One event is larger than the reader's limit; what follows cannot be read."""


class SseReader:
    """Collects bytes into events. Keeps at most one event, and never more than `limit` bytes of it."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._line: list[bytes] = []
        self._data: list[bytes] = []
        self._data_size = 0
        self._line_size = 0
        self._first = True

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data of the events that these bytes complete. Raises `EventTooLarge`."""
        events: list[bytes] = []
        if not self._data and b"\n\n" in chunk:  # not in the middle of an event
            whole, _, rest = b"".join((*self._line, chunk)).rpartition(b"\n\n")
            if self._is_plain(whole):
                self._line, self._line_size, self._first = [], 0, False
                events, chunk = whole[len(_FIELD) :].split(_BETWEEN), rest
                if len(whole) > self._limit and len(_FIELD) + max(map(len, events)) > self._limit:
                    raise EventTooLarge
        self._feed_lines(chunk, events)
        return events

    @staticmethod
    def _is_plain(events: bytes) -> bool:
        """Return whether each of the events is one line of data, as nearly every one is: every line
        end is one between two such lines.
        """
        return (
            events.startswith(_FIELD)
            and b"\r" not in events
            and events.count(b"\n") == 2 * events.count(_BETWEEN)
        )

    def _feed_lines(self, chunk: bytes, events: list[bytes]) -> None:
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

    def finish(self) -> list[bytes]:
        """Return the data of the last event of a stream that ended without the blank line after it."""
        events: list[bytes] = []
        if self._line:
            self._read(b"".join(self._line), events)
        self._read(b"", events)
        return events

    def _read(self, line: bytes, events: list[bytes]) -> None:
        if line.endswith(b"\r"):
            line = line[:-1]
        if self._first:
            self._first = False
            line = line.removeprefix(_BOM)
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            self._data_size += len(line)
            self._check_size()
        elif not line and self._data:
            events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
            self._data, self._data_size = [], 0

    def _check_size(self) -> None:
        if self._data_size + self._line_size > self._limit:
            raise EventTooLarge
