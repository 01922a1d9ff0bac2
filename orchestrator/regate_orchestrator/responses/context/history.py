"""History: stored items on their way back into a prompt or out to a reader, each decided again for the caller
and the policy of now (I9).

What a model wrote rests on everything it had read: its lineage. When any source of it is no longer permitted,
or is gone, the text is withheld together with the source, in every later turn that had read it too. What the
client wrote stays. Pure; `gate.py` asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from regate_orchestrator.lineage import (
    ChunkSource,
    FileSource,
    PageSource,
    Source,
    SourceKey,
    all_of,
    touching,
)
from regate_orchestrator.responses.client_tools.kind import WITHHELD
from regate_orchestrator.responses.client_tools.table import CALLS, OUTPUTS
from regate_orchestrator.responses.prompt import PromptItem
from regate_orchestrator.responses.tools.kinds.table import KINDS
from regate_orchestrator.responses.tools.passage import Passage, stored_passage, stored_source
from regate_orchestrator.rows import ItemWithParent, ResponseRow, StoredItem
from regate_orchestrator.values import JsonObject


@dataclass(frozen=True, slots=True)
class History:
    """Stored items in order, each with what holds it, and every source that any of them rests on or found."""

    items: tuple[ItemWithParent, ...]
    sources: Mapping[SourceKey, Source]


@dataclass(frozen=True, slots=True)
class Readmitted:
    """What may be used again. `withheld` counts items and passages left out; `sources` is what remains
    permitted.
    """

    items: tuple[tuple[StoredItem, bool], ...]
    """Each item with whether its content may be shown; one that may not is present so that turns stay
    paired.
    """
    sources: Mapping[SourceKey, Source]
    withheld: int


def held(rows: Iterable[ResponseRow]) -> tuple[ItemWithParent, ...]:
    """Return the items of these responses, in order, each with its response's view."""
    return tuple(
        ItemWithParent(view, item) for row, view in ((row, row.view()) for row in rows) for item in row.items
    )


def history_of(items: Iterable[ItemWithParent]) -> History:
    """Return the history that these items make together."""
    listed = tuple(items)
    sources = all_of(one.item.lineage for one in listed)
    for one in listed:
        for result in one.item.results:
            sources.setdefault(_key(result), stored_source(result))
    return History(listed, sources)


def readmit(
    history: History, admitted: frozenset[int], denied: frozenset[SourceKey], *, cited_only: bool = False
) -> Readmitted:
    """Return what is left of the history: of its items those at the admitted positions that rest on
    nothing that is denied. An answer that cites rests on that alone where `cited_only`.
    """
    touches = touching(denied)

    def rests_on_denied(item: StoredItem) -> bool:
        if not touches(item.lineage):
            return False
        cited = _cited(item) if cited_only else None
        return cited is None or not cited.isdisjoint(denied)

    kept: list[tuple[StoredItem, bool]] = []
    withheld = 0
    for position, one in enumerate(history.items):
        item = one.item
        shown = position in admitted and not rests_on_denied(item)
        results = tuple(result for result in item.results if _key(result) not in denied) if shown else ()
        withheld += (not shown) + (len(item.results) - len(results) if shown else 0)
        kept.append((replace(item, results=results), shown))
    sources = {key: source for key, source in history.sources.items() if key not in denied}
    return Readmitted(tuple(kept), sources, withheld)


def _cited(item: StoredItem) -> frozenset[SourceKey] | None:
    """Return what of its lineage an answer cites; None for one that cites nothing, and for no answer."""
    if item.body["type"] != "message":
        return None
    content = item.body.get("content")
    parts = content if isinstance(content, list | tuple) else ()
    names = {
        annotation.get("file_id") or annotation.get("url")
        for part in parts
        if isinstance(part, Mapping)
        for annotation in cast("Sequence[JsonObject]", part.get("annotations") or ())
    }
    if not names:
        return None
    return frozenset(source.key for source in item.lineage if _cited_name(source) in names)


def _cited_name(source: Source) -> str:
    match source:
        case ChunkSource(file_id=file) | FileSource(file_id=file):
            return file
        case PageSource(url=url):
            return url
        case _:
            return ""


def prompt_item(item: StoredItem, *, shown: bool) -> PromptItem:
    """Return a readmitted item for a prompt, with a note in place of what is withheld.

    Items of one model turn had read the same before them, which is how its turns are told apart where a
    search found something.
    """
    if not shown:
        return withheld(item.body, turn=item.lineage.size)
    return PromptItem(
        item.body,
        passages=passages_of(item),
        text=returned(item.body),
        lineage=item.lineage,
        turn=item.lineage.size,
    )


def returned(body: JsonObject) -> str:
    """Return what an item says that a tool returned that runs here, beside its passages."""
    kind = KINDS.get(cast("str", body["type"]))
    return "" if kind is None else kind.answer(body)


def withheld(body: JsonObject, *, turn: int | None) -> PromptItem:
    """Return an item for a prompt without what is in it: its place and its pairing stay."""
    return PromptItem(redacted_body(body, shown=False), note=WITHHELD, turn=turn)


def redacted_body(body: JsonObject, *, shown: bool) -> JsonObject:
    """Return an item as a reader may see it: a withheld message keeps its place and id but not its
    text; calls keep neither input.
    """
    if shown:
        return body
    name = cast("str", body["type"])
    if (kind := KINDS.get(name) or CALLS.get(name)) is not None:
        return kind.withheld(body)
    if (kind_of_output := OUTPUTS.get(name)) is not None:
        return kind_of_output.withheld_output(body)
    body = dict(body)
    match body["type"]:
        case "message":
            part = "output_text" if body.get("role") == "assistant" else "input_text"
            body["content"] = [
                {
                    "type": part,
                    "text": WITHHELD,
                    **({"annotations": [], "logprobs": []} if part == "output_text" else {}),
                }
            ]
        case "reasoning":
            body = {"id": body.get("id"), "type": "reasoning", "summary": []}
        case _:
            body = {"id": body.get("id"), "type": body["type"]}
    return body


def passages_of(item: StoredItem) -> tuple[Passage, ...]:
    """Return what a stored call found, as far as it is still with it."""
    return tuple(map(stored_passage, item.results))


def _key(result: JsonObject) -> SourceKey:
    return stored_source(result).key
