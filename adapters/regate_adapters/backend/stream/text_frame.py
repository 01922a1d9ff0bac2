"""The frame of a run of text chunks: what stays the same from one to the next, so that only the text between
has to be read.

A backend that writes token by token repeats some two hundred bytes around each. Reading them once a run is
what lets the loop keep up with a pass-through. Whatever does not fit the frame to the byte is read as a chunk
of its own (`chat_events.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import orjson

from regate_orchestrator.model_events import ModelEvent, TextWritten

_NAME: Final = b'"content":'


@dataclass(frozen=True, slots=True)
class Frame:
    """The bytes before and after the text, which is a JSON string."""

    head: bytes
    tail: bytes

    def run(self, chunks: Sequence[bytes], start: int) -> list[bytes]:
        """Return what stands between head and tail in the chunks of this frame from `start` on, up to
        the first of another.
        """
        head, tail = self.head, self.tail
        least, first, last = len(head) + len(tail), len(head), -len(tail)
        literals: list[bytes] = []
        for data in islice(chunks, start, None):
            if not (data.startswith(head) and data.endswith(tail)) or len(data) < least:
                break
            literals.append(data[first:last])
        return literals

    def around(self, literal: bytes) -> bytes:
        """Return the chunk that the literal was taken out of."""
        return self.head + literal + self.tail

    def texts(self, literals: Sequence[bytes]) -> list[str] | None:
        """Return the texts; None where any literal is not exactly one JSON string."""
        if not all(len(literal) > 1 and literal[0] == literal[-1] == _QUOTE for literal in literals):
            return None
        try:
            values = orjson.loads(b"[" + b",".join(literals) + b"]")
        except orjson.JSONDecodeError:
            return None
        return (
            values if len(values) == len(literals) and all(type(value) is str for value in values) else None
        )


_QUOTE: Final = ord('"')


def frame_of(data: bytes, events: Sequence[ModelEvent]) -> Frame | None:
    """Return the frame of a chunk that told a piece of text and nothing else; None for any other."""
    if len(events) != 1 or not isinstance(event := events[0], TextWritten) or event.logprobs:
        return None
    literal = orjson.dumps(event.text)
    place = data.find(_NAME + literal)
    if place < 0:
        place = data.find(_NAME + b" " + literal)
    if place < 0 or data.count(_NAME) != 1:
        return None
    start = data.index(literal, place + len(_NAME))
    return Frame(data[:start], data[start + len(literal) :])
