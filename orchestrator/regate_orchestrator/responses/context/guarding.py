"""The input of a turn, as far as guards let it through: what the client sends, and the files of earlier
messages, which are read anew in each turn.

What is taken out is taken out of what is stored as well, so that no later turn has it. An input that is
blocked goes to no model; what was blocked of it is not stored. The output of a client's tool that is blocked
is replaced by a word about that, and the turn goes on.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, cast

from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.concurrency import few_at_once
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.guards.arguments import tool_about
from regate_orchestrator.guards.checked import Checked
from regate_orchestrator.guards.checking import Guards
from regate_orchestrator.guards.model_output import GuardedBackend, RefusingBackend
from regate_orchestrator.guards.places import WORDS, Place, is_json, places_in_content, text_at, with_text
from regate_orchestrator.ports import Backend, GuardStep
from regate_orchestrator.responses.client_tools.table import CALLS, OUTPUTS
from regate_orchestrator.responses.events import TurnAuthorized
from regate_orchestrator.responses.granting import Granted
from regate_orchestrator.responses.prompt import Part, PromptItem
from regate_orchestrator.responses.request import ResponseRequest
from regate_orchestrator.rows import StoredItem
from regate_orchestrator.values import Json, JsonObject

RESULT_BLOCKED: Final = "[What this tool returned was blocked and may not be used.]"
_STEPS: Final[frozenset[GuardStep]] = frozenset({"input", "tool_result"})
_MEMBERS: Final = ("content", "output", "summary", "queries")


async def guard_turn(
    guards: Guards, context: Context, granted: Granted, authorized: TurnAuthorized
) -> tuple[Granted, TurnAuthorized]:
    """Return what was granted and authorized, as far as guards let it through: the request and its items
    without what is taken out, and a backend whose answers are checked, or which refuses where the input is
    blocked.

    Raises as `Guards.check` does, and `InvalidRequest` where something is blocked that is to be summarised.
    """
    request = granted.request
    types = {tool.wire: tool.kind.type for tool in request.client_tools if not tool.kind.is_named}
    backend: Backend = GuardedBackend(granted.backend, guards, context, _RunHere(request), types)
    if not _STEPS.isdisjoint(guards.steps):
        request, authorized, is_blocked = await _guard_input(guards, context, request, authorized)
        if is_blocked:
            backend = RefusingBackend()
    return replace(granted, request=request, backend=backend), authorized


async def _guard_input(
    guards: Guards, context: Context, request: ResponseRequest, authorized: TurnAuthorized
) -> tuple[ResponseRequest, TurnAuthorized, bool]:
    """Return both without what is taken out, and whether something is blocked of what is sent now."""
    sent = {item["id"] for item in request.items if item["type"] != "item_reference"}
    start = len(authorized.history)
    items = [*authorized.history, *authorized.sent]
    is_new = [False] * start + [stored.id in sent for stored in authorized.inputs]
    texts = [_texts(item) if new or item.parts else [] for item, new in zip(items, is_new, strict=True)]
    texts.append([request.instructions] if request.instructions else [])
    bodies: list[JsonObject] = [*(item.body for item in items), {"type": "instructions"}]
    fates = await _fates(guards, context, bodies, texts)
    is_blocked = any(
        fate.is_blocked and body["type"] not in OUTPUTS
        for fate, body in zip(fates[start:], bodies[start:], strict=True)
    )
    if is_blocked and (request.compact or request.compact_threshold is not None):
        raise input_blocked("input")
    left = [_left(*one) for one in zip(bodies, texts, fates, strict=True)]
    changed = [before != after for before, after in zip(texts, left, strict=True)]
    if not any(changed):
        return request, authorized, is_blocked
    cleaned = [_cleaned(*one) for one in zip(items, left, fates, strict=False)]
    inputs = [
        replace(stored, body=item.body) if was_changed else stored
        for stored, item, was_changed in zip(
            authorized.inputs, cleaned[start:], changed[start:], strict=False
        )
    ]
    authorized = replace(
        authorized, history=tuple(cleaned[:start]), sent=tuple(cleaned[start:]), inputs=tuple(inputs)
    )
    return _without(request, left[-1]), authorized, is_blocked


@dataclass(frozen=True, slots=True)
class _RunHere(Container[str]):
    """The names of tools that run here: their arguments are checked where their calls are decided."""

    request: ResponseRequest

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.request.runs_here(name)


async def guard_items(
    guards: Guards, context: Context, items: Sequence[StoredItem], *, param: str
) -> list[StoredItem]:
    """Return the items that a client puts into a conversation, without what is taken out. Raises as
    `Guards.check` does, and `InvalidRequest` where something is blocked.
    """
    if _STEPS.isdisjoint(guards.steps):
        return list(items)
    prompted = [PromptItem(item.body) for item in items]
    texts = [_texts(item) for item in prompted]
    bodies = [item.body for item in items]
    fates = await _fates(guards, context, bodies, texts)
    if any(fate.is_blocked for fate in fates):
        raise input_blocked(param)
    left = [_left(*one) for one in zip(bodies, texts, fates, strict=True)]
    return [
        item if before == after else replace(item, body=_with_texts(shown, after).body)
        for item, shown, before, after in zip(items, prompted, texts, left, strict=True)
    ]


def input_blocked(param: str) -> InvalidRequest:
    """Return the refusal of an input that is blocked where there is no answer that could say so."""
    message = "The input was blocked by a guard of this service. Change it and try again."
    return InvalidRequest(message, param=param, code="content_filter")


async def _fates(
    guards: Guards, context: Context, bodies: Sequence[JsonObject], texts: Sequence[Sequence[str]]
) -> list[Checked]:
    """Return what becomes of each item: outputs of tools are checked as such, all else as input."""
    places: dict[GuardStep, list[int]] = {"input": [], "tool_result": []}
    for place, body in enumerate(bodies):
        places["tool_result" if body["type"] in OUTPUTS else "input"].append(place)
    checking = [
        partial(
            guards.check,
            context,
            step,
            ["".join(texts[place]) for place in found],
            about=[_about(bodies[place]) for place in found] if step == "tool_result" else (),
        )
        for step, found in places.items()
    ]
    checked = await few_at_once(checking, most=len(checking))
    fates = [Checked()] * len(bodies)
    for found, answers in zip(places.values(), checked, strict=True):
        for place, fate in zip(found, answers, strict=True):
            fates[place] = fate
    return fates


def _about(output: JsonObject) -> JsonObject:
    kind = OUTPUTS[cast("str", output["type"])]
    return tool_about("function", "") if kind.is_named else tool_about(kind.type, kind.type)


def _left(body: JsonObject, texts: Sequence[str], fate: Checked) -> list[str]:
    """Return what may be used of an item's texts. Arguments stay JSON."""
    left = fate.of_pieces(texts)
    if fate.is_blocked and body["type"] in OUTPUTS and left:
        left[0] = RESULT_BLOCKED
    return (
        ["{}"] if body["type"] == "function_call" and left != list(texts) and not is_json(left[0]) else left
    )


def _cleaned(item: PromptItem, left: Sequence[str], fate: Checked) -> PromptItem:
    cleaned = _with_texts(item, left)
    kind = OUTPUTS.get(cast("str", item.body["type"])) if fate.is_blocked else None
    return cleaned if kind is None else replace(cleaned, body=kind.blocked_output(cleaned.body))


def _without(request: ResponseRequest, left: Sequence[str]) -> ResponseRequest:
    """Return the request as it is repeated: with these instructions, and without the values of variables, as
    something was taken out of what may have been made of them.
    """
    echo = dict(request.echo)
    if isinstance(prompt := echo.get("prompt"), Mapping) and "variables" in prompt:
        echo["prompt"] = {**prompt, "variables": None}
    return replace(request, instructions=left[0] if left else request.instructions, echo=echo)


# ---------------------------------------------------------------- the texts of items


def _texts(item: PromptItem) -> list[str]:
    """Return the texts of an item, as a model would read them."""
    if item.parts:
        return [str(part.content["text"]) for part in item.parts if part.content["type"] == "text"]
    return [text_at(item.body, place) for place in _places(item.body)]


def _with_texts(item: PromptItem, texts: Sequence[str]) -> PromptItem:
    """Return the item with these texts in the place of its own; an item of which no text was looked at as it
    is.
    """
    if not texts:
        return item
    if item.parts:
        return _with_parts(item, texts)
    body = item.body
    for place, text in zip(_places(body), texts, strict=True):
        body = with_text(body, place, text)
    return replace(item, body=body)


def _with_parts(item: PromptItem, texts: Sequence[str]) -> PromptItem:
    """Return an item that brings its content as a backend takes it. What the file behind an id holds stays
    there; a file that was sent inline is kept as the text that is left of it.
    """
    member = "output" if item.body["type"] in OUTPUTS else "content"
    content = list(cast("Sequence[Mapping[str, Json]]", item.body[member]))
    parts: list[Part] = list(item.parts)
    left = iter(texts)
    for place, part in enumerate(parts):
        if part.content["type"] != "text" or (text := next(left)) == part.content["text"]:
            continue
        parts[place] = replace(part, content={"type": "text", "text": text})
        if content[place]["type"] != "input_file":
            name = next(name for name in WORDS if name in content[place])
            content[place] = {**content[place], name: text}
        elif "file_id" not in content[place]:
            content[place] = {"type": "input_text", "text": text}
    return replace(item, body={**item.body, member: content}, parts=tuple(parts))


def _places(body: JsonObject) -> Sequence[Place]:
    """Return where the texts of an item are."""
    name = cast("str", body["type"])
    if (call := CALLS.get(name)) is not None:
        return call.places(body)
    if (output := OUTPUTS.get(name)) is not None:
        return output.output_places(body)
    return [place for member in _MEMBERS for place in places_in_content(body.get(member), (member,))]
