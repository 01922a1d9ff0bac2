"""Replay: a stored Response told again as the stream that could have made it, for readers who come when no
log of it is left.

Pure. Its numbers are its own; where the log is there, the log is replayed instead
(`responses/background.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, cast

from regate_orchestrator.responses.client_tools.table import CALLS
from regate_orchestrator.responses.output.emitter import Emitter
from regate_orchestrator.responses.tools import listing
from regate_orchestrator.responses.tools.kinds.table import KINDS
from regate_orchestrator.responses.tools.tool import ToolKind
from regate_orchestrator.values import Json, JsonObject

_TERMINAL: Final = ("completed", "incomplete", "failed")


def events_of(response: JsonObject) -> list[JsonObject]:
    """Return the events, from created to the one that says how the response ended; none such for one
    that was cancelled.
    """
    begun: JsonObject = {
        **response,
        "status": "in_progress",
        "output": [],
        "completed_at": None,
        "usage": None,
        "error": None,
    }
    begun = {**begun, "incomplete_details": None}
    emitter = (
        Emitter().write("response.created", response=begun).write("response.in_progress", response=begun)
    )
    for index, item in enumerate(cast("Sequence[JsonObject]", response["output"])):
        emitter = _item(emitter, index, item)
    if response["status"] in _TERMINAL:
        emitter = emitter.write(f"response.{response['status']}", response=response)
    return list(emitter.written)


def _item(emitter: Emitter, index: int, item: JsonObject) -> Emitter:
    kind = cast("str", item["type"])
    emitter = emitter.write("response.output_item.added", output_index=index, item=_empty(item))
    place: dict[str, Json] = {"item_id": item["id"], "output_index": index}
    match kind:
        case "message":
            for number, part in enumerate(_parts(item, "content")):
                emitter = _message_part(emitter, {**place, "content_index": number}, part)
        case "reasoning":
            emitter = _reasoning(emitter, place, item)
        case _ if kind in CALLS:
            for name, members in CALLS[kind].told(item):
                emitter = emitter.write(f"response.{name}", **place, **members)
        case _ if kind in KINDS:
            emitter = _call(emitter, place, KINDS[kind], item)
        case listing.LISTING:
            for name, members in listing.told(item):
                emitter = emitter.write(f"response.{name}", **place, **members)
        case _:
            pass
    return emitter.write("response.output_item.done", output_index=index, item=item)


def _call(emitter: Emitter, place: dict[str, Json], kind: ToolKind, item: JsonObject) -> Emitter:
    stem = f"response.{kind.item_type}"
    emitter = emitter.write(f"{stem}.in_progress", **place)
    for name, members in kind.told(item):
        emitter = emitter.write(f"response.{name}", **place, **members)
    if kind.progress:
        emitter = emitter.write(f"{stem}.{kind.progress}", **place)
    if item["status"] == "completed" or (kind.tells_failure and item["status"] == "failed"):
        emitter = emitter.write(f"{stem}.{item['status']}", **place)
    return emitter


def _message_part(emitter: Emitter, place: dict[str, Json], part: Mapping[str, Json]) -> Emitter:
    if part["type"] == "refusal":
        emitter = emitter.write(
            "response.content_part.added", **place, part={"type": "refusal", "refusal": ""}
        )
        emitter = emitter.write("response.refusal.delta", **place, delta=part["refusal"]).write(
            "response.refusal.done", **place, refusal=part["refusal"]
        )
        return emitter.write("response.content_part.done", **place, part=part)
    logprobs = part.get("logprobs", [])
    emitter = emitter.write(
        "response.content_part.added", **place, part={**part, "text": "", "annotations": [], "logprobs": []}
    )
    emitter = emitter.write("response.output_text.delta", **place, delta=part["text"], logprobs=logprobs)
    for number, annotation in enumerate(cast("Sequence[Json]", part.get("annotations", []))):
        emitter = emitter.write(
            "response.output_text.annotation.added", **place, annotation_index=number, annotation=annotation
        )
    emitter = emitter.write("response.output_text.done", **place, text=part["text"], logprobs=logprobs)
    return emitter.write("response.content_part.done", **place, part=part)


def _reasoning(emitter: Emitter, place: dict[str, Json], item: JsonObject) -> Emitter:
    for number, part in enumerate(_parts(item, "summary")):
        at: dict[str, Json] = {**place, "summary_index": number}
        emitter = emitter.write(
            "response.reasoning_summary_part.added", **at, part={"type": "summary_text", "text": ""}
        )
        emitter = emitter.write("response.reasoning_summary_text.delta", **at, delta=part["text"])
        emitter = emitter.write("response.reasoning_summary_text.done", **at, text=part["text"])
        emitter = emitter.write("response.reasoning_summary_part.done", **at, part=part)
    for number, part in enumerate(_parts(item, "content")):
        at = {**place, "content_index": number}
        emitter = emitter.write(
            "response.content_part.added", **at, part={"type": "reasoning_text", "text": ""}
        )
        emitter = emitter.write("response.reasoning_text.delta", **at, delta=part["text"])
        emitter = emitter.write("response.reasoning_text.done", **at, text=part["text"])
        emitter = emitter.write("response.content_part.done", **at, part=part)
    return emitter


def _empty(item: JsonObject) -> JsonObject:
    """Return the item as it is announced: in progress, with nothing in it yet."""
    empty: dict[str, Json] = {**item, **({"status": "in_progress"} if "status" in item else {})}
    match item["type"]:
        case "message":
            empty["content"] = []
        case "reasoning":
            empty = {name: value for name, value in empty.items() if name != "encrypted_content"} | {
                "summary": []
            }
            empty |= {"content": []} if "content" in item else {}
        case listing.LISTING:
            return listing.empty(empty)
        case str(kind) if kind in KINDS or kind in CALLS:
            return (KINDS.get(kind) or CALLS[kind]).empty(empty)
        case _:
            return item
    return empty


def _parts(item: JsonObject, name: str) -> Sequence[Mapping[str, Json]]:
    return cast("Sequence[Mapping[str, Json]]", item.get(name) or ())
