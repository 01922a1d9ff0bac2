"""The events of a stream that passes through: cut whole out of the bytes, and held to be parts of an answer.
Pure.

Nearly all are known for what they are by their bytes alone; the others are read. Nothing is held back but the
beginning of an event.
"""

from __future__ import annotations

from typing import Final

from regate_adapters.backend.failures import misunderstood
from regate_adapters.backend.stream.sse_reader import MAX_EVENT_BYTES, SseReader
from regate_adapters.backend.stream.told_errors import read_loosely, reported, tells_error
from regate_adapters.backend.upstream_response import UpstreamResponse
from regate_orchestrator.errors import UpstreamError

_COMMENT: Final = b":\n\n"
_DONE: Final = b"[DONE]"


class VouchedEvents:
    """Cuts bytes into whole events, and looks at them. From a failure on nothing passes."""

    def __init__(self, response: UpstreamResponse) -> None:
        self._response = response
        self._rest = b""
        self.begun = False
        self.failure: UpstreamError | None = None

    def feed(self, chunk: bytes) -> bytes:
        """Return the events that these bytes complete, as far as they may pass."""
        block = self._rest + chunk if self._rest else chunk
        end = max(block.rfind(b"\n\n") + 2, block.rfind(b"\n\r\n") + 3)
        end = end if end >= 3 else 0
        self._rest = block[end:]
        if len(self._rest) > MAX_EVENT_BYTES:
            self.failure = misunderstood(
                self._response.upstream, f"an event of more than {MAX_EVENT_BYTES} bytes"
            )
        return self._passed(block[:end])

    def finish(self) -> bytes:
        """Return the last event, which may lack the blank line after it."""
        passed = self._passed(self._rest)
        if not self.begun and self.failure is None:
            self.failure = misunderstood(self._response.upstream, "a stream without an event")
        return passed

    def _passed(self, block: bytes) -> bytes:
        if _is_plain(block):
            self.begun = self.begun or bool(block)
            return block
        passed: list[bytes] = []
        for event in _split(block):
            try:
                passed.append(self._look_at(event))
            except UpstreamError as error:
                self.failure = error
                break
        return b"".join(passed)

    def _look_at(self, event: bytes) -> bytes:
        """Return the event as it passes on: itself, or nothing where it is no part of an answer.
        Raises `UpstreamError`.
        """
        found = SseReader(limit=2 * len(event) + 2)  # a last line without an end is counted twice
        data = b"\n".join([*found.feed(event), *found.finish()]).strip()
        if not data:
            return _COMMENT if event.strip() else b""
        if data == _DONE:
            return event
        document = read_loosely(data)
        if not isinstance(document, dict):
            raise misunderstood(self._response.upstream, "an event that is no JSON object")
        if tells_error(document) or _is_named_error(event):
            raise self._response.without_key(reported(self._response.upstream, document))
        if not isinstance(document.get("choices"), list) and not isinstance(document.get("usage"), dict):
            return b""
        self.begun = True
        return event


def _is_plain(block: bytes) -> bool:
    """Return whether each event is one line of data that holds choices, as nearly every one is, and
    none can be an error.
    """
    if b'"error"' in block:
        return False
    return all(
        event.startswith(b"data: {")
        and event.endswith(b"}")
        and b"\n" not in event
        and (b'"choices":[{' in event or b'"choices": [{' in event)
        for event in block.removesuffix(b"\n\n").split(b"\n\n")
    ) and block.endswith(b"\n\n")


def _split(block: bytes) -> list[bytes]:
    """Return the events of a block, each with the blank line that ends it."""
    events: list[bytes] = []
    lines: list[bytes] = []
    for line in block.splitlines(keepends=True):
        lines.append(line)
        if line in (b"\n", b"\r\n"):
            events.append(b"".join(lines))
            lines = []
    return [*events, b"".join(lines)] if lines else events


def _is_named_error(event: bytes) -> bool:
    return any(
        line.partition(b":")[0] == b"event" and line.partition(b":")[2].strip() == b"error"
        for line in event.splitlines()
    )
