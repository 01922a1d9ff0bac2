"""History: stored items on their way back into a prompt or out to a reader, each decided again for the caller and the policy of now (I9).

What a model wrote rests on everything it had read: its lineage. When any chunk of it is no longer permitted, or is gone, the text is
withheld together with the chunk, in every later turn that had read it too. What the client wrote stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from regate_orchestrator.enforcer import Admitted, Batch
from regate_orchestrator.ports import LiveFile
from regate_orchestrator.responses.prompt import WITHHELD, Passage, PromptItem
from regate_orchestrator.rows import ChunkRef, HeldItem, ResponseRow, StoredItem
from regate_orchestrator.values import FileId, JsonObject, StoreId

Pair = tuple[StoreId, FileId]
ChunkKey = tuple[StoreId, str]


@dataclass(frozen=True, slots=True)
class History:
    """Stored items in order, each with what holds it, and every chunk that any of them rests on."""

    items: tuple[HeldItem, ...]
    refs: Mapping[ChunkKey, ChunkRef]

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Return the attachments that the chunks came from."""
        return tuple(dict.fromkeys((ref.store_id, ref.file_id) for ref in self.refs.values()))


@dataclass(frozen=True, slots=True)
class Readmitted:
    """What may be used again. `withheld` counts items and passages left out; `refs` is the lineage of what remains."""

    items: tuple[tuple[StoredItem, bool], ...]
    """Each item with whether its content may be shown; one that may not is present so that turns stay paired."""
    refs: Mapping[ChunkKey, ChunkRef]
    withheld: int


def held(rows: Iterable[ResponseRow]) -> tuple[HeldItem, ...]:
    """Return the items of these responses, in order, each with its response's view."""
    return tuple(HeldItem(view, item) for row, view in ((row, row.view()) for row in rows) for item in row.items)


def history_of(items: Iterable[HeldItem]) -> History:
    """Return the history that these items make together."""
    listed = tuple(items)
    refs = {(ref.store_id, ref.chunk_id): ref for one in listed for ref in _rests_on(one.item)}
    return History(listed, refs)


def batch_of(history: History, live: Mapping[Pair, LiveFile], stores: Mapping[StoreId, JsonObject]) -> tuple[Batch, list[ChunkKey]]:
    """Return the decisions to ask, and which chunk each position of `batch.chunks` is.

    Chunks are decided on the stamp of now; one whose file is detached, or whose store is gone, is not even asked about.
    """
    keys = [key for key, ref in history.refs.items() if (ref.store_id, ref.file_id) in live and ref.store_id in stores]
    chunks = [(key[0], live[key[0], history.refs[key].file_id].stamp) for key in keys]
    used = {key[0] for key in keys}
    batch = Batch(
        stores={store: view for store, view in stores.items() if store in used},
        chunks=chunks,
        items=[one.view() for one in history.items],
    )
    return batch, keys


def readmit(history: History, admitted: Admitted, keys: Sequence[ChunkKey]) -> Readmitted:
    """Return what the decisions leave of the history."""
    permitted = {key for position, key in enumerate(keys) if position in admitted.chunks and key[0] in admitted.stores}
    kept: list[tuple[StoredItem, bool]] = []
    withheld = 0
    for position, one in enumerate(history.items):
        item = one.item
        shown = position in admitted.items and all((ref.store_id, ref.chunk_id) in permitted for ref in item.lineage)
        results = tuple(result for result in item.results if _key(result) in permitted) if shown else ()
        withheld += (not shown) + (len(item.results) - len(results) if shown else 0)
        kept.append((_replace_results(item, results), shown))
    return Readmitted(tuple(kept), {key: ref for key, ref in history.refs.items() if key in permitted}, withheld)


def prompt_item(item: StoredItem, shown: bool, refs: Mapping[ChunkKey, ChunkRef]) -> PromptItem:
    """Return a readmitted item for a prompt, with a note in place of what is withheld.

    Items of one model turn had the same chunks before them, which is how its turns are told apart where a search found something.
    """
    if not shown:
        return PromptItem(shown_body(item, shown=False), note=WITHHELD, turn=len(item.lineage))
    return PromptItem(item.body, passages=passages_of(item, refs), turn=len(item.lineage))


def shown_body(item: StoredItem, shown: bool) -> JsonObject:
    """Return an item as a reader may see it: a withheld message keeps its place and id but not its text; calls keep neither input."""
    if shown:
        return item.body
    body = dict(item.body)
    match body["type"]:
        case "message":
            part = "output_text" if body.get("role") == "assistant" else "input_text"
            body["content"] = [{"type": part, "text": WITHHELD, **({"annotations": [], "logprobs": []} if part == "output_text" else {})}]
        case "function_call":
            body["arguments"] = "{}"
        case "custom_tool_call":
            body["input"] = ""
        case "file_search_call":
            body["queries"] = []
        case "function_call_output" | "custom_tool_call_output":
            body["output"] = WITHHELD
        case "reasoning":
            body = {"id": body.get("id"), "type": "reasoning", "summary": []}
        case _:
            body = {"id": body.get("id"), "type": body["type"]}
    return body


def passages_of(item: StoredItem, refs: Mapping[ChunkKey, ChunkRef]) -> tuple[Passage, ...]:
    """Return what a stored `file_search_call` found, as far as it was readmitted."""
    return tuple(
        Passage(
            ref=refs[_key(result)],
            filename=cast("str", result["filename"]),
            text=cast("str", result["text"]),
            score=cast("float", result["score"]),
            attributes=cast("JsonObject", result["attributes"]),
        )
        for result in item.results
        if _key(result) in refs
    )


def stored_result(passage: Passage) -> JsonObject:
    """Return a passage as it is stored with the item that found it."""
    return {
        **passage.as_result(),
        "store_id": passage.ref.store_id,
        "chunk_id": passage.ref.chunk_id,
        "stamp": passage.ref.stamp,
    }


def _rests_on(item: StoredItem) -> list[ChunkRef]:
    found = [ChunkRef(*_key_parts(result), cast("str", result["chunk_id"]), cast("JsonObject", result["stamp"])) for result in item.results]
    return [*item.lineage, *found]


def _key_parts(result: JsonObject) -> tuple[StoreId, FileId]:
    return cast("StoreId", result["store_id"]), cast("FileId", result["file_id"])


def _key(result: JsonObject) -> ChunkKey:
    return cast("StoreId", result["store_id"]), cast("str", result["chunk_id"])


def _replace_results(item: StoredItem, results: tuple[JsonObject, ...]) -> StoredItem:
    return StoredItem(item.id, item.body, item.direction, item.lineage, results)
