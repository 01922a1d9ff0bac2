"""The prompt: items turned into chat messages. Passages appear in tool messages only, each under a marker,
never as a system message.

A model turn becomes one assistant message with its text and all its calls, followed by one tool message a
call, as every backend wants it; two turns are never merged. Pairs are checked before: a call without its
output, or an output without its call, is the caller's error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, cast

from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.lineage import NOTHING_READ, FileSource, Lineage
from regate_orchestrator.responses.client_tools.table import CALLS, OUTPUTS
from regate_orchestrator.responses.output.citations import marker, without_markers
from regate_orchestrator.responses.tools.approvals import REQUEST, RESPONSE, approval_id
from regate_orchestrator.responses.tools.kinds.table import KINDS
from regate_orchestrator.responses.tools.listing import LISTING
from regate_orchestrator.responses.tools.passage import Citation, Passage
from regate_orchestrator.tokens import estimated_tokens
from regate_orchestrator.upstream_capabilities import ReasoningField
from regate_orchestrator.values import Json, JsonObject

_NOT_TOLD: Final = frozenset({LISTING, REQUEST, RESPONSE})
_SPOKEN: Final = frozenset({"message", "compaction"})

_HEADING: Final = (
    "Passages found. After each statement that rests on a passage, write that passage's marker, such as "
    "【1】."
)
_NOTHING: Final = "No passages were found."
_IMAGES: Final = "The images that the tools returned:"
_SUMMARY: Final = "[Summary of the conversation so far]"


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a message's content as a backend takes it, and the stored file that it was read
    from, if any.
    """

    content: JsonObject
    source: FileSource | None = None


@dataclass(frozen=True, slots=True)
class PromptItem:
    """An item that goes into the prompt.

    A call that ran here brings its passages and in `text` what else it found, or in `note` the reason why
    there is nothing; a message with images or files brings `parts`, its content as a backend takes it; a
    sealed item (reasoning, compaction) brings in `text` what was in it. `lineage` is what it rests on, beside
    the passages and parts. `turn` tells the model turns of one response apart, where they are known.
    """

    body: JsonObject
    passages: tuple[Passage, ...] = ()
    note: str = ""
    parts: tuple[Part, ...] = ()
    text: str = ""
    lineage: Lineage = NOTHING_READ
    turn: int | None = None


@dataclass
class Prompt:
    """The messages, and which passage each marker in them stands for."""

    messages: list[JsonObject] = field(default_factory=list)
    sources: dict[int, Citation] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """Return an estimate of the prompt's size."""
        return estimated_tokens(list(self.messages))


def build_prompt(
    instructions: str | None, items: Sequence[PromptItem], *, reasoning_field: ReasoningField = "none"
) -> Prompt:
    """Return the prompt of the next model call. Raises `InvalidRequest` for unpaired calls and outputs.

    Earlier reasoning goes along only where the backend takes it, under the member that it takes it in.
    """
    told = _approvals_told(since_compaction(items))
    items, answers = _as_answered([item for item in told if not _is_cut_call(item)])
    prompt = Prompt()
    if instructions:
        prompt.messages.append({"role": "system", "content": instructions})
    turn = _Turn(prompt, reasoning_field)
    for item, answer in zip(items, answers, strict=True):
        kind, role = item.body["type"], item.body.get("role")
        if kind in OUTPUTS:
            turn.answered()
        elif kind == "reasoning":
            turn.reason(item)
        elif kind == "compaction":
            turn.close()
            prompt.messages.append({"role": "user", "content": f"{_SUMMARY}\n{item.note or item.text}"})
        elif kind == "message" and role != "assistant":
            turn.close()
            prompt.messages.append(
                {"role": "system" if role == "developer" else cast("str", role), "content": _content(item)}
            )
        else:
            turn.add(item, answer)
    turn.close()
    return prompt


def since_compaction(items: Sequence[PromptItem]) -> list[PromptItem]:
    """Return the items without what the last compaction stands for: all before it, but for the turn
    that was being answered then.
    """
    for position in range(len(items) - 1, -1, -1):
        if items[position].body["type"] == "compaction":
            _, kept = split_at_last_user(items[:position])
            return [items[position], *kept, *items[position + 1 :]]
    return list(items)


def split_at_last_user(items: Sequence[PromptItem]) -> tuple[list[PromptItem], list[PromptItem]]:
    """Return the items before the last message of the user's, and those from it on; without such a
    message, nothing is kept apart.
    """
    for position in range(len(items) - 1, -1, -1):
        body = items[position].body
        if body["type"] == "message" and body.get("role") == "user":
            return list(items[:position]), list(items[position:])
    return list(items), []


def message_text(body: JsonObject) -> str:
    """Return a message item's text: its parts joined, refusals included."""
    content = body["content"]
    if isinstance(content, str):
        return content
    parts = cast("Sequence[Mapping[str, Json]]", content)
    return "".join(str(part.get("text", part.get("refusal", ""))) for part in parts)


def _content(item: PromptItem) -> Json:
    return [part.content for part in item.parts] if item.parts and not item.note else message_text(item.body)


def _approvals_told(items: Sequence[PromptItem]) -> list[PromptItem]:
    """Return the items without those that a model has no use for: what servers offer, and approvals. A call
    that was not made, since nobody approved it, says so.
    """
    if not any(item.body["type"] in _NOT_TOLD for item in items):
        return list(items)
    made = {item.body.get("approval_request_id") for item in items if item.body["type"] in KINDS}
    answers = {item.body["approval_request_id"]: item.body for item in items if item.body["type"] == RESPONSE}
    told: list[PromptItem] = []
    for item in items:
        kind, asked = item.body["type"], item.body
        if kind == REQUEST and (identifier := approval_id(asked)) not in made:
            body = {**asked, "type": "mcp_call", "arguments": asked.get("arguments", "{}")}
            told.append(replace(item, body=body, note=item.note or _not_made(answers.get(identifier))))
        elif kind not in _NOT_TOLD:
            told.append(item)
    return told


def _not_made(answer: JsonObject | None) -> str:
    if answer is None:
        return "The call was not made: it waits for the user's approval."
    if answer["approve"] is True:
        return "The call was not made: its tool is not offered any more."
    reason = answer.get("reason")
    return "The call was not made: the user did not approve it." + (f" Reason: {reason}" if reason else "")


def _is_cut_call(item: PromptItem) -> bool:
    # A call that was cut in its arguments was never the client's to answer.
    return item.body["type"] in CALLS and item.body.get("status") == "incomplete"


def _as_answered(items: Sequence[PromptItem]) -> tuple[list[PromptItem], list[PromptItem | None]]:
    """Return the items with each call at the place of its output, where something was said between the two,
    and the output of each call.

    What a client says while its tool runs was said before the model knew the output, and the output stays the
    last word. Reasoning goes with the call that it led to.
    """
    answers = _answers(items)
    spoken = -1
    said_before: list[int] = []  # the last message before each place
    for position, item in enumerate(items):
        said_before.append(spoken)
        spoken = position if item.body["type"] in _SPOKEN else spoken
    moved: dict[int, list[int]] = {}
    for position, answer in enumerate(answers):
        if answer is not None and said_before[answer] > position:
            place = next(
                at for at in range(said_before[answer], answer + 1) if items[at].body["type"] in OUTPUTS
            )
            moved.setdefault(place, []).extend([*_reasoning_before(items, position), position])
    gone = {position for positions in moved.values() for position in positions}
    order = [
        at
        for position in range(len(items))
        for at in (*moved.get(position, ()), *(() if position in gone else (position,)))
    ]
    return [items[at] for at in order], [
        None if (answer := answers[at]) is None else items[answer] for at in order
    ]


def _reasoning_before(items: Sequence[PromptItem], position: int) -> list[int]:
    first = position
    while first and items[first - 1].body["type"] == "reasoning":
        first -= 1
    return list(range(first, position))


def _answers(items: Sequence[PromptItem]) -> list[int | None]:
    """Return for each item the place of the output that answers it, where it is a call of the client's tools.

    Backends use an id again in a later turn, so an output belongs to the first call before it that has none
    yet. A call with a note (withheld, or of a tool that there is not) needs none: the note is what came of
    it.
    """
    answers: list[int | None] = [None] * len(items)
    places: dict[str, list[int]] = {}
    for position, item in enumerate(items):
        if item.body["type"] in CALLS:
            places.setdefault(_call_id(item), []).append(position)
        elif item.body["type"] in OUTPUTS:
            call_id = cast("str", item.body["call_id"])
            if call_id not in places:
                raise InvalidRequest(
                    f"No tool call found for function call output with call_id {call_id}.", param="input"
                )
            waiting = (place for place in places[call_id] if answers[place] is None)
            answers[next(waiting, places[call_id][-1])] = position
    for item, answer in zip(items, answers, strict=True):
        if item.body["type"] in CALLS and answer is None and not item.note:
            raise InvalidRequest(f"No tool output found for function call {_call_id(item)}.", param="input")
    return answers


class _Turn:
    """The assistant message being put together, and the tool messages that answer its calls."""

    def __init__(self, prompt: Prompt, reasoning_field: ReasoningField) -> None:
        self._prompt = prompt
        self._reasoning_field = reasoning_field
        self._reasoning = ""
        self._items: list[tuple[PromptItem, PromptItem | None]] = []
        self._is_answered = False

    def reason(self, item: PromptItem) -> None:
        """Add reasoning, with which a model turn begins. A backend that does not take it back is not told."""
        text = item.text or _reasoning_text(item.body)
        if self._reasoning_field == "none" or not text or item.note:
            return
        if self._items:
            self.close()
        self._reasoning += text

    def add(self, item: PromptItem, answer: PromptItem | None) -> None:
        """Add text, or a call with its output."""
        if self._items and self._is_over_before(item):
            self.close()
        self._items.append((item, answer))

    def answered(self) -> None:
        """Note that an output has come: a call after it is of another turn."""
        self._is_answered = bool(self._items)

    def close(self) -> None:
        """Write the messages of the turn, if there is one."""
        items, self._items, self._is_answered = self._items, [], False
        reasoning, self._reasoning = self._reasoning, ""
        if not items:
            return
        text = "".join(message_text(item.body) for item, _ in items if item.body["type"] == "message")
        calls = [(item, answer) for item, answer in items if item.body["type"] != "message"]
        if not (text or calls or reasoning):
            return  # nothing was said; backends take no null, and some no empty text
        message: dict[str, Json] = {"role": "assistant", "content": None if calls and not text else text}
        if reasoning:
            message[self._reasoning_field] = reasoning
        if calls:
            message["tool_calls"] = [_call(item) for item, _ in calls]
        self._prompt.messages.append(message)
        for item, answer in calls:
            content = _result(self._prompt, item, answer)
            self._prompt.messages.append({"role": "tool", "tool_call_id": _call_id(item), "content": content})
        if images := [
            part for item, answer in calls for part in _images(item, answer)
        ]:  # most backends' tool messages hold none
            self._prompt.messages.append(
                {"role": "user", "content": [{"type": "text", "text": _IMAGES}, *images]}
            )

    def _is_over_before(self, item: PromptItem) -> bool:
        """Return whether the item is of another turn. A model turn writes its text before its calls,
        so text after anything is.
        """
        if item.body["type"] == "message" or self._is_answered:
            return True
        last, _ = self._items[-1]
        return None not in (last.turn, item.turn) and last.turn != item.turn


def _images(call: PromptItem, answer: PromptItem | None) -> list[JsonObject]:
    if call.note or answer is None:
        return []
    return [part.content for part in answer.parts if part.content["type"] == "image_url"]


def _reasoning_text(body: JsonObject) -> str:
    parts = [
        *cast("Sequence[Mapping[str, Json]]", body.get("content") or ()),
        *cast("Sequence[Mapping[str, Json]]", body.get("summary") or ()),
    ]
    return "\n".join(str(part.get("text", "")) for part in parts)


def _call_id(item: PromptItem) -> str:
    return cast("str", item.body.get("call_id") or item.body["id"])


def _call(item: PromptItem) -> JsonObject:
    body, kind = item.body, cast("str", item.body["type"])
    if (client := CALLS.get(kind)) is not None:
        name, arguments = client.called(body), client.arguments(body)
    else:
        name, called = KINDS[kind].called(body)
        arguments = json.dumps(called, ensure_ascii=False)
    return {"id": _call_id(item), "type": "function", "function": {"name": name, "arguments": arguments}}


def _result(prompt: Prompt, item: PromptItem, answer: PromptItem | None) -> str:
    if answer is not None and not item.note:
        texts = [str(part.content["text"]) for part in answer.parts if part.content["type"] == "text"]
        kind = OUTPUTS[cast("str", answer.body["type"])]
        return answer.note or "\n".join(texts) or kind.output_text(answer.body)
    if not item.passages:
        return item.note or without_markers(item.text) or _NOTHING
    blocks = [without_markers(item.text), _HEADING] if item.text else [_HEADING]
    for passage in item.passages:
        number = len(prompt.sources) + 1
        prompt.sources[number] = passage.citation
        blocks.append(f"{marker(number)} {without_markers(passage.heading)}\n{without_markers(passage.text)}")
    return "\n\n".join(blocks)
