"""The output assembler: what the model says, turned into items and the events that announce them. A part of
the machine, as pure.

At most one message and one reasoning item are open at a time, and calls stay open until the model turn ends,
since upstreams interleave their arguments (`calls.py`). Every item that was added is closed again, with the
same id and index (RESPONSES pitfalls 2–5).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, assert_never

from regate_orchestrator.model_events import (
    ArgumentsWritten,
    CallOpened,
    ReasoningWritten,
    RefusalWritten,
    TextWritten,
)
from regate_orchestrator.responses.context.sealing import seal
from regate_orchestrator.responses.output import calls
from regate_orchestrator.responses.output.citations import clean, quoted_by, statement_start
from regate_orchestrator.responses.output.emitter import ItemStatus, OpenMessage, OpenReasoning
from regate_orchestrator.responses.output.items import add_item, finish_item
from regate_orchestrator.responses.prompt import PromptItem
from regate_orchestrator.responses.state import State
from regate_orchestrator.values import Json, JsonObject, mint

Written = TextWritten | ReasoningWritten | RefusalWritten | CallOpened | ArgumentsWritten


def write(state: State, event: Written) -> State:
    """Return the state after the model wrote a piece."""
    match event:
        case TextWritten(text, logprobs):
            return _write_text(_open_message(close_reasoning(state), "output_text"), text, logprobs)
        case RefusalWritten(text):
            return _write_refusal(_open_message(close_reasoning(state), "refusal"), text)
        case ReasoningWritten(text):
            return _write_reasoning(close_message(state), text)
        case CallOpened():
            return calls.open_call(close_message(close_reasoning(state)), event)
        case ArgumentsWritten(slot, text):
            return calls.write_arguments(state, slot, text)
        case _:
            assert_never(event)


def close_turn(state: State, *, cut: bool) -> State:
    """Return the state with every open item closed, and the calls of tools that run here pending; `cut` says
    that the model was stopped.
    """
    last: ItemStatus = "incomplete" if cut else "completed"
    return calls.close_calls(close_message(close_reasoning(state, last), last), cut=cut)


def abandon_turn(state: State) -> State:
    """Return the state with every open item closed as incomplete, pending calls included: nothing more
    will come.
    """
    return calls.abandon_calls(close_message(close_reasoning(state, "incomplete"), "incomplete"))


def close_reasoning(state: State, status: ItemStatus = "completed") -> State:
    """Return the state without open reasoning."""
    reasoning = state.output.reasoning
    if reasoning is None:
        return state
    text, item = str(reasoning.text), reasoning.item(status)
    place: dict[str, Json] = {"item_id": reasoning.id, "output_index": reasoning.index}
    if reasoning.summarized:
        part: JsonObject = {"type": "summary_text", "text": text}
        state = state.told("response.reasoning_summary_text.done", **place, summary_index=0, text=text)
        state = state.told("response.reasoning_summary_part.done", **place, summary_index=0, part=part)
    else:
        part = {"type": "reasoning_text", "text": text}
        state = state.told("response.reasoning_text.done", **place, content_index=0, text=text)
        state = state.told("response.content_part.done", **place, content_index=0, part=part)
    request, lineage = state.request, state.output.items[reasoning.index].lineage
    if request.include.encrypted_reasoning:
        of = {"tenant": state.turn.tenant, "owner": state.turn.owner, "model": request.model}
        item = {**item, "encrypted_content": seal(state.sealer, "reasoning", text, lineage, **of)}
    state = state.with_output(reasoning=None).prompted(PromptItem(item, text=text, lineage=lineage))
    return finish_item(state, reasoning.index, item)


def close_message(state: State, status: ItemStatus = "completed") -> State:
    """Return the state without an open message; what was held back as a possible citation marker is
    written first.
    """
    if state.output.message is None:
        return state
    state = _write_text(state, "", last=True) if state.output.message.kind == "output_text" else state
    message = state.output.message
    assert message is not None  # noqa: S101 — INVARIANT: writing text never closes the message
    place: dict[str, Json] = {"item_id": message.id, "output_index": message.index, "content_index": 0}
    if message.kind == "output_text":
        logprobs: Json = list(message.logprobs)
        state = state.told("response.output_text.done", **place, text=str(message.text), logprobs=logprobs)
    else:
        state = state.told("response.refusal.done", **place, refusal=str(message.text))
    state = state.told("response.content_part.done", **place, part=message.part())
    item = message.item(status)
    state = state.with_output(message=None).prompted(
        PromptItem(item, lineage=state.context.lineage, turn=state.round)
    )
    return finish_item(state, message.index, item)


def cite(state: State, marker: int, position: int) -> State:
    """Return the state with the open message citing the file behind a marker; unknown markers and
    repeated places are left out.
    """
    message = state.output.message
    if message is None or marker not in state.context.sources:
        return state
    start = statement_start(str(message.text), position)
    annotation = state.context.sources[marker].annotation(start, position)
    if annotation in message.annotations:
        return state
    state = state.told(
        "response.output_text.annotation.added",
        item_id=message.id,
        output_index=message.index,
        content_index=0,
        annotation_index=len(message.annotations),
        annotation=annotation,
    )
    return state.with_output(message=replace(message, annotations=(*message.annotations, annotation)))


def cite_quoted(state: State) -> State:
    """Return the state in which an answer without any marker cites each file and page of this response's
    passages that it quotes (pitfall 41).
    """
    message = state.output.message
    if message is None or message.annotations or "【" in message.held:
        return state
    answer = str(message.text) + message.held
    is_quoted = quoted_by(answer)
    quoted = {
        passage.citation[0]
        for output in state.output.items
        for passage in output.passages
        if is_quoted(passage.text)
    }
    for number, (cited, _) in sorted(state.context.sources.items()):
        if cited in quoted:
            quoted.discard(cited)
            state = cite(state, number, len(answer))
    return state


def _open_message(state: State, kind: Literal["output_text", "refusal"]) -> State:
    if state.output.message is not None and state.output.message.kind == kind:
        return state
    state = close_message(state)
    message = OpenMessage(mint("msg_"), len(state.output.items), kind)
    state = add_item(state, message.item("in_progress"))
    return state.told(
        "response.content_part.added",
        item_id=message.id,
        output_index=message.index,
        content_index=0,
        part=message.part(empty=True),
    ).with_output(message=message)


def _write_text(
    state: State, piece: str, logprobs: tuple[JsonObject, ...] = (), *, last: bool = False
) -> State:
    message = state.output.message
    assert message is not None  # noqa: S101 — INVARIANT: callers open the message first
    cleaned = clean(message.held, piece, last=last)
    start = len(message.text)
    emitter = state.output.emitter
    if cleaned.text:
        place: dict[str, Json] = {"item_id": message.id, "output_index": message.index, "content_index": 0}
        emitter = emitter.write(
            "response.output_text.delta", **place, delta=cleaned.text, logprobs=list(logprobs)
        )
    seen = message.logprobs + logprobs if logprobs else message.logprobs
    message = replace(message, text=message.text + cleaned.text, held=cleaned.held, logprobs=seen)
    state = state.with_output(emitter=emitter, message=message)
    for number, offset in cleaned.cited:
        state = cite(state, number, start + offset)
    return state


def _write_refusal(state: State, piece: str) -> State:
    message = state.output.message
    assert message is not None  # noqa: S101 — INVARIANT: callers open the message first
    place: dict[str, Json] = {"item_id": message.id, "output_index": message.index, "content_index": 0}
    state = state.told("response.refusal.delta", **place, delta=piece)
    return state.with_output(message=replace(message, text=message.text + piece))


def _write_reasoning(state: State, piece: str) -> State:
    reasoning = state.output.reasoning
    if reasoning is None:
        state, reasoning = _open_reasoning(state)
    place: dict[str, Json] = {"item_id": reasoning.id, "output_index": reasoning.index}
    if reasoning.summarized:
        state = state.told("response.reasoning_summary_text.delta", **place, summary_index=0, delta=piece)
    else:
        state = state.told("response.reasoning_text.delta", **place, content_index=0, delta=piece)
    return state.with_output(reasoning=replace(reasoning, text=reasoning.text + piece))


def _open_reasoning(state: State) -> tuple[State, OpenReasoning]:
    summarized = state.request.summarize_reasoning
    reasoning = OpenReasoning(mint("rs_"), len(state.output.items), summarized)
    state = add_item(state, reasoning.item("in_progress"))
    place: dict[str, Json] = {"item_id": reasoning.id, "output_index": reasoning.index}
    part: JsonObject = {"type": "summary_text" if summarized else "reasoning_text", "text": ""}
    if summarized:
        state = state.told("response.reasoning_summary_part.added", **place, summary_index=0, part=part)
    else:
        state = state.told("response.content_part.added", **place, content_index=0, part=part)
    return state, reasoning
