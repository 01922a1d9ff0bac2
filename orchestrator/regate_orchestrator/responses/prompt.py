"""The prompt: items turned into chat messages. Passages appear in tool messages only, each under a marker, never as a system message.

A model turn becomes one assistant message with its text and all its calls, followed by one tool message a call, as every backend wants
it; two turns are never merged. Pairs are checked before: a call without its output, or an output without its call, is the caller's error.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.responses.citations import marker, without_markers
from regate_orchestrator.rows import ChunkRef
from regate_orchestrator.values import FileId, Json, JsonObject

FILE_SEARCH: Final = "file_search"
WITHHELD: Final = "[This earlier answer was withheld: it rests on content that is no longer available.]"
_HEADING: Final = "Passages found. After each statement that rests on a passage, write that passage's marker, such as 【1】."
_NOTHING: Final = "No passages were found."


@dataclass(frozen=True, slots=True)
class Passage:
    """One admitted chunk as the model reads it and as `file_search_call.results` shows it."""

    ref: ChunkRef
    filename: str
    text: str
    score: float
    attributes: JsonObject

    def as_result(self) -> JsonObject:
        """Return the passage in the API's shape (`file_search_call.results[]`)."""
        return {
            "file_id": self.ref.file_id,
            "filename": self.filename,
            "score": self.score,
            "text": self.text,
            "attributes": dict(self.attributes),
        }


@dataclass(frozen=True, slots=True)
class PromptItem:
    """An item that goes into the prompt; a `file_search_call` brings its passages, or the reason why there are none."""

    body: JsonObject
    passages: tuple[Passage, ...] = ()
    note: str = ""


@dataclass
class Prompt:
    """The messages, and which passage each marker in them stands for."""

    messages: list[JsonObject] = field(default_factory=list)
    sources: dict[int, tuple[FileId, str]] = field(default_factory=dict)


def build_prompt(instructions: str | None, items: Sequence[PromptItem]) -> Prompt:
    """Return the prompt of the next model call. Raises `InvalidRequest` for unpaired calls and outputs."""
    items = [item for item in items if not _is_cut_call(item)]
    outputs = _paired_outputs(items)
    prompt = Prompt()
    if instructions:
        prompt.messages.append({"role": "system", "content": instructions})
    turn: list[PromptItem] = []
    for item in items:
        kind, role = item.body["type"], item.body.get("role")
        if kind in ("function_call_output", "reasoning"):
            continue
        if kind == "message" and role != "assistant":
            _close_turn(prompt, turn, outputs)
            prompt.messages.append({"role": "system" if role == "developer" else cast("str", role), "content": message_text(item.body)})
            continue
        if kind == "message" and turn:  # a model turn writes its text before its calls, so text after anything begins another turn
            _close_turn(prompt, turn, outputs)
        turn.append(item)
    _close_turn(prompt, turn, outputs)
    return prompt


def message_text(body: JsonObject) -> str:
    """Return a message item's text: its parts joined, refusals included."""
    content = body["content"]
    if isinstance(content, str):
        return content
    parts = cast("Sequence[Mapping[str, Json]]", content)
    return "".join(str(part.get("text", part.get("refusal", ""))) for part in parts)


def output_text(output: Json) -> str:
    """Return a function call output's text: a string, or its text parts joined."""
    if isinstance(output, str):
        return output
    return "".join(str(part.get("text", "")) for part in cast("Sequence[Mapping[str, Json]]", output))


def _is_cut_call(item: PromptItem) -> bool:
    # A call that was cut in its arguments was never the client's to answer.
    return item.body["type"] == "function_call" and item.body.get("status") == "incomplete"


def _paired_outputs(items: Iterable[PromptItem]) -> dict[str, str]:
    called: list[str] = []
    outputs: dict[str, str] = {}
    for item in items:
        if item.body["type"] == "function_call" and not item.note:
            called.append(cast("str", item.body["call_id"]))
        elif item.body["type"] == "function_call_output":
            call_id = cast("str", item.body["call_id"])
            if call_id not in called:
                raise InvalidRequest(f"No tool call found for function call output with call_id {call_id}.", param="input")
            outputs[call_id] = output_text(item.body["output"])
    if missing := [call_id for call_id in called if call_id not in outputs]:
        raise InvalidRequest(f"No tool output found for function call {missing[0]}.", param="input")
    return outputs


def _close_turn(prompt: Prompt, turn: list[PromptItem], outputs: Mapping[str, str]) -> None:
    if not turn:
        return
    text = "".join(message_text(item.body) for item in turn if item.body["type"] == "message")
    calls = [item for item in turn if item.body["type"] != "message"]
    message: dict[str, Json] = {"role": "assistant", "content": text or None}
    if calls:
        message["tool_calls"] = [_call(item) for item in calls]
    prompt.messages.append(message)
    for item in calls:
        prompt.messages.append({"role": "tool", "tool_call_id": _call_id(item), "content": _result(prompt, item, outputs)})
    turn.clear()


def _call_id(item: PromptItem) -> str:
    return cast("str", item.body.get("call_id") or item.body["id"])


def _call(item: PromptItem) -> JsonObject:
    if item.body["type"] == "function_call":
        name, arguments = cast("str", item.body["name"]), cast("str", item.body["arguments"])
    else:
        queries = cast("Sequence[str]", item.body["queries"])
        name, arguments = FILE_SEARCH, json.dumps({"query": " ".join(queries)}, ensure_ascii=False)
    return {"id": _call_id(item), "type": "function", "function": {"name": name, "arguments": arguments}}


def _result(prompt: Prompt, item: PromptItem, outputs: Mapping[str, str]) -> str:
    if item.body["type"] == "function_call" and not item.note:
        return outputs[_call_id(item)]
    if not item.passages:
        return item.note or _NOTHING
    blocks = [_HEADING]
    for passage in item.passages:
        number = len(prompt.sources) + 1
        prompt.sources[number] = (passage.ref.file_id, passage.filename)
        blocks.append(f"{marker(number)} file: {without_markers(passage.filename)}\n{without_markers(passage.text)}")
    return "\n\n".join(blocks)
