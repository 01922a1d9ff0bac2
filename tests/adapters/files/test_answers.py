"""What a reader answers is not believed: a file may have taken it over."""

from __future__ import annotations

import json

import pytest

from regate_adapters.files.readers.extract import _parsed
from regate_orchestrator.ports import UnreadableFile


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b"{}",
        b'{"chunks": []}',
        b'{"chunks": [1]}',
        b'{"chunks": "x"}',
        b'{"code": "x", "message": "y"}',
        b"[" * 100_000,
    ],
    ids=lambda value: value[:20].decode(),
)
def test_an_answer_of_a_worker_that_was_taken_over_is_not_believed(output: bytes) -> None:
    with pytest.raises(UnreadableFile):
        _parsed(output)


def test_a_chunk_is_always_valid_unicode() -> None:
    assert _parsed(json.dumps({"chunks": ["a\ud800"]}).encode()) == ["a?"]
