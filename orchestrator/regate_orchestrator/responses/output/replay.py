"""Replay: a stored Response told again as the stream that could have made it, for readers who come when no log of it is left.

Pure. Its numbers are its own; where the log is there, the log is replayed instead (`responses/background.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, cast

from regate_orchestrator.responses.output.emitter import Pen
from regate_orchestrator.values import Json, JsonObject

_TERMINAL: Final = ("completed", "incomplete", "failed")


def events_of(response: JsonObject) -> list[JsonObject]:
    """Return the events, from created to the one that says how the response ended; none such for one that was cancelled."""
    begun: JsonObject = {**response, "status": "in_progress", "output": [], "completed_at": None, "usage": None, "error": None}
    begun = {**begun, "incomplete_details": None}
    pen = Pen().write("response.created", response=begun).write("response.in_progress", response=begun)
    for index, item in enumerate(cast("Sequence[JsonObject]", response["output"])):
        pen = _item(pen, index, item)
    if response["status"] in _TERMINAL:
        pen = pen.write(f"response.{response['status']}", response=response)
    return list(pen.written)


def _item(pen: Pen, index: int, item: JsonObject) -> Pen:
    kind = item["type"]
    pen = pen.write("response.output_item.added", output_index=index, item=_empty(item))
    place: dict[str, Json] = {"item_id": item["id"], "output_index": index}
    match kind:
        case "message":
            for number, part in enumerate(_parts(item, "content")):
                pen = _message_part(pen, {**place, "content_index": number}, part)
        case "reasoning":
            pen = _reasoning(pen, place, item)
        case "function_call":
            pen = pen.write("response.function_call_arguments.delta", **place, delta=item["arguments"])
            pen = pen.write("response.function_call_arguments.done", **place, name=item["name"], arguments=item["arguments"])
        case "custom_tool_call":
            pen = pen.write("response.custom_tool_call_input.delta", **place, delta=item["input"])
            pen = pen.write("response.custom_tool_call_input.done", **place, input=item["input"])
        case "file_search_call":
            pen = pen.write("response.file_search_call.in_progress", **place).write("response.file_search_call.searching", **place)
            pen = pen.write("response.file_search_call.completed", **place) if item["status"] == "completed" else pen
        case _:
            pass
    return pen.write("response.output_item.done", output_index=index, item=item)


def _message_part(pen: Pen, place: dict[str, Json], part: Mapping[str, Json]) -> Pen:
    if part["type"] == "refusal":
        pen = pen.write("response.content_part.added", **place, part={"type": "refusal", "refusal": ""})
        pen = pen.write("response.refusal.delta", **place, delta=part["refusal"]).write(
            "response.refusal.done", **place, refusal=part["refusal"]
        )
        return pen.write("response.content_part.done", **place, part=part)
    logprobs = part.get("logprobs", [])
    pen = pen.write("response.content_part.added", **place, part={**part, "text": "", "annotations": [], "logprobs": []})
    pen = pen.write("response.output_text.delta", **place, delta=part["text"], logprobs=logprobs)
    for number, annotation in enumerate(cast("Sequence[Json]", part.get("annotations", []))):
        pen = pen.write("response.output_text.annotation.added", **place, annotation_index=number, annotation=annotation)
    pen = pen.write("response.output_text.done", **place, text=part["text"], logprobs=logprobs)
    return pen.write("response.content_part.done", **place, part=part)


def _reasoning(pen: Pen, place: dict[str, Json], item: JsonObject) -> Pen:
    for number, part in enumerate(_parts(item, "summary")):
        at: dict[str, Json] = {**place, "summary_index": number}
        pen = pen.write("response.reasoning_summary_part.added", **at, part={"type": "summary_text", "text": ""})
        pen = pen.write("response.reasoning_summary_text.delta", **at, delta=part["text"])
        pen = pen.write("response.reasoning_summary_text.done", **at, text=part["text"])
        pen = pen.write("response.reasoning_summary_part.done", **at, part=part)
    for number, part in enumerate(_parts(item, "content")):
        at = {**place, "content_index": number}
        pen = pen.write("response.content_part.added", **at, part={"type": "reasoning_text", "text": ""})
        pen = pen.write("response.reasoning_text.delta", **at, delta=part["text"])
        pen = pen.write("response.reasoning_text.done", **at, text=part["text"])
        pen = pen.write("response.content_part.done", **at, part=part)
    return pen


def _empty(item: JsonObject) -> JsonObject:
    """Return the item as it is announced: in progress, with nothing in it yet."""
    empty: dict[str, Json] = {**item, **({"status": "in_progress"} if "status" in item else {})}
    match item["type"]:
        case "message":
            empty["content"] = []
        case "reasoning":
            empty = {name: value for name, value in empty.items() if name != "encrypted_content"} | {"summary": []}
            empty |= {"content": []} if "content" in item else {}
        case "function_call":
            empty["arguments"] = ""
        case "custom_tool_call":
            empty["input"] = ""
        case "file_search_call":
            empty |= {"queries": [], "results": None}
        case _:
            return item
    return empty


def _parts(item: JsonObject, name: str) -> Sequence[Mapping[str, Json]]:
    return cast("Sequence[Mapping[str, Json]]", item.get(name) or ())
