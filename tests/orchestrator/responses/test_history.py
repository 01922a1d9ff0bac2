"""History is decided again on every turn: what is no longer permitted leaves, together with all that was made from it."""

from __future__ import annotations

from typing import Any

from tests.orchestrator.responses.playbook import passage

from regate_orchestrator.enforcer import Admitted
from regate_orchestrator.ports import LiveFile
from regate_orchestrator.responses.history import batch_of, held, history_of, prompt_item, readmit, shown_body
from regate_orchestrator.responses.prompt import WITHHELD, build_prompt
from regate_orchestrator.rows import ResponseRow, StoredItem
from regate_orchestrator.values import FileId, ResponseId, StoreId

STORE = StoreId("vs_1")
STAMP = {"tenant": "acme", "labels": []}


def said(identifier: str, role: str, text: str, *, read: tuple[int, ...] = ()) -> StoredItem:
    body = {"id": identifier, "type": "message", "role": role, "status": "completed", "content": [{"type": "output_text", "text": text}]}
    return StoredItem(identifier, body, "output" if role == "assistant" else "input", tuple(passage(number).ref for number in read))


def found(identifier: str, *numbers: int) -> StoredItem:
    body = {"id": identifier, "type": "file_search_call", "status": "completed", "queries": ["leave"], "results": None}
    results = tuple(
        {
            "file_id": f"file-{number}",
            "filename": f"leave-{number}.md",
            "score": 0.9,
            "text": f"secret {number}",
            "attributes": {},
            "store_id": STORE,
            "chunk_id": f"acme/file-{number}/000000",
            "stamp": STAMP,
        }
        for number in numbers
    )
    return StoredItem(identifier, body, "output", (), results)


def row(*items: StoredItem) -> ResponseRow:
    return ResponseRow(ResponseId("resp_1"), "acme", "alice", 0, "completed", None, "m", "rev", {}, items)


TURN = row(
    said("u", "user", "q"),
    found("fs", 1, 2),
    said("a", "assistant", "answer from 1 and 2", read=(1, 2)),
    said("n", "assistant", "unrelated"),
)


def decide(live_files: tuple[int, ...], *, denied_chunks: frozenset[int] = frozenset(), denied_items: frozenset[int] = frozenset()) -> Any:
    history = history_of(held([TURN]))
    live = {(STORE, FileId(f"file-{number}")): LiveFile(f"leave-{number}.md", STAMP, {}, "") for number in live_files}
    batch, keys = batch_of(history, live, {STORE: {"id": STORE}})
    admitted = Admitted(
        "rev",
        frozenset(batch.stores),
        frozenset(range(len(batch.chunks))) - denied_chunks,
        frozenset(range(len(batch.items))) - denied_items,
        frozenset(),
        frozenset(),
    )
    return readmit(history, admitted, keys)


def prompt_of(left: Any) -> str:
    return str(build_prompt(None, [prompt_item(item, shown, left.refs) for item, shown in left.items]).messages)


def test_permitted_history_is_used_whole() -> None:
    left = decide((1, 2))

    assert left.withheld == 0
    assert "secret 1" in prompt_of(left)
    assert "answer from 1 and 2" in prompt_of(left)


def test_detached_file_leaves_the_prompt_with_everything_made_from_it() -> None:
    text = prompt_of(decide((2,)))

    assert "secret 1" not in text
    assert "answer from 1 and 2" not in text
    assert "secret 2" in text
    assert WITHHELD in text


def test_denied_chunk_leaves_the_prompt_with_everything_made_from_it() -> None:
    text = prompt_of(decide((1, 2), denied_chunks=frozenset({0})))

    assert "secret 1" not in text
    assert "answer from 1 and 2" not in text


def test_what_rests_on_nothing_denied_stays() -> None:
    assert "unrelated" in prompt_of(decide((2,)))


def test_denied_item_is_withheld_whole() -> None:
    text = prompt_of(decide((1, 2), denied_items=frozenset({1})))

    assert "secret" not in text


def test_store_that_may_no_longer_be_searched_takes_its_chunks_along() -> None:
    history = history_of(held([TURN]))
    live = {(STORE, FileId(f"file-{number}")): LiveFile("x", STAMP, {}, "") for number in (1, 2)}
    batch, keys = batch_of(history, live, {STORE: {"id": STORE}})
    everything = Admitted("rev", frozenset(), frozenset(range(2)), frozenset(range(4)), frozenset(), frozenset())

    assert len(batch.chunks) == 2
    assert "secret" not in prompt_of(readmit(history, everything, keys))


def test_withheld_call_keeps_its_place_but_neither_query_nor_arguments() -> None:
    call = StoredItem("fc", {"id": "fc", "type": "function_call", "call_id": "c", "name": "f", "arguments": '{"salary": 1}'}, "output")

    assert shown_body(call, shown=False)["arguments"] == "{}"
    assert shown_body(found("fs", 1), shown=False)["queries"] == []


def test_chunks_are_decided_on_the_stamp_of_now() -> None:
    history = history_of(held([TURN]))
    newer = {"tenant": "acme", "labels": ["hr-only"]}
    batch, _ = batch_of(history, {(STORE, FileId("file-1")): LiveFile("x", newer, {}, "")}, {STORE: {"id": STORE}})

    assert batch.chunks == [(STORE, newer)]
