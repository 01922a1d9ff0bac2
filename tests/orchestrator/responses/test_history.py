"""History is decided again on every turn: what is no longer permitted leaves, together with all that
was made from it.
"""

from __future__ import annotations

from typing import Any

from tests.orchestrator.responses.playbook import passage

from regate_orchestrator.lineage import ChunkSource, Lineage
from regate_orchestrator.responses.client_tools.kind import WITHHELD
from regate_orchestrator.responses.context.history import (
    Readmitted,
    held,
    history_of,
    prompt_item,
    readmit,
    redacted_body,
)
from regate_orchestrator.responses.prompt import build_prompt
from regate_orchestrator.rows import ItemWithParent, ResponseRow, StoredItem
from regate_orchestrator.values import FileId, ResponseId, StoreId

STORE = StoreId("vs_1")
STAMP = {"tenant": "acme", "labels": []}


def said(identifier: str, role: str, text: str, *, read: tuple[int, ...] = ()) -> StoredItem:
    body = {
        "id": identifier,
        "type": "message",
        "role": role,
        "status": "completed",
        "content": [{"type": "output_text", "text": text}],
    }
    return StoredItem(
        identifier,
        body,
        "output" if role == "assistant" else "input",
        Lineage.of(passage(number).source for number in read),
    )


def found(identifier: str, *numbers: int) -> StoredItem:
    body = {
        "id": identifier,
        "type": "file_search_call",
        "status": "completed",
        "queries": ["leave"],
        "results": None,
    }
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
    return StoredItem(identifier, body, "output", results=results)


def row(*items: StoredItem) -> ResponseRow:
    return ResponseRow(ResponseId("resp_1"), "acme", "alice", 0, "completed", None, "m", "rev", {}, items)


TURN = row(
    said("u", "user", "q"),
    found("fs", 1, 2),
    said("a", "assistant", "answer from 1 and 2", read=(1, 2)),
    said("n", "assistant", "unrelated"),
)


def decide(*denied: int, denied_items: frozenset[int] = frozenset()) -> Readmitted:
    keys = frozenset(passage(number).source.key for number in denied)
    return readmit(history_of(held([TURN])), frozenset(range(len(TURN.items))) - denied_items, keys)


def prompt_of(left: Readmitted) -> str:
    return str(build_prompt(None, [prompt_item(item, shown=shown) for item, shown in left.items]).messages)


def test_permitted_history_is_used_whole() -> None:
    left = decide()

    assert left.withheld == 0
    assert "secret 1" in prompt_of(left)
    assert "answer from 1 and 2" in prompt_of(left)


def test_denied_chunk_leaves_the_prompt_with_everything_made_from_it() -> None:
    text = prompt_of(decide(1))

    assert "secret 1" not in text
    assert "answer from 1 and 2" not in text
    assert "secret 2" in text
    assert WITHHELD in text


def test_what_rests_on_nothing_denied_stays() -> None:
    assert "unrelated" in prompt_of(decide(1))


def test_denied_item_is_withheld_whole() -> None:
    text = prompt_of(decide(denied_items=frozenset({1})))

    assert "secret" not in text


def test_withheld_call_keeps_its_place_but_neither_query_nor_arguments() -> None:
    call = StoredItem(
        "fc",
        {"id": "fc", "type": "function_call", "call_id": "c", "name": "f", "arguments": '{"salary": 1}'},
        "output",
    )

    assert redacted_body(call.body, shown=False)["arguments"] == "{}"
    assert redacted_body(found("fs", 1).body, shown=False)["queries"] == []


def test_answer_that_cites_rests_on_that_alone_where_the_policy_narrows_it() -> None:
    kept, gone = (ChunkSource(StoreId("vs_1"), FileId(f"file-{n}"), f"c{n}", {}) for n in (1, 2))
    citation = {"type": "file_citation", "file_id": "file-1", "filename": "a", "index": 0}

    def answer(*annotations: Any) -> ItemWithParent:
        part = {"type": "output_text", "text": "x", "annotations": list(annotations)}
        body = {"id": "msg_1", "type": "message", "role": "assistant", "content": [part]}
        return ItemWithParent({}, StoredItem("msg_1", body, "output", Lineage.of([kept, gone])))

    def shown(one: ItemWithParent, denied: ChunkSource, *, cited_only: bool) -> bool:
        left = readmit(history_of([one]), frozenset({0}), frozenset({denied.key}), cited_only=cited_only)
        return left.items[0][1]

    assert shown(answer(citation), gone, cited_only=True)
    assert not shown(answer(citation), gone, cited_only=False)
    assert not shown(answer(citation), kept, cited_only=True)
    assert not shown(answer(), gone, cited_only=True)  # what cites nothing rests on everything
