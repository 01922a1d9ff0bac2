"""Writing: what the model says, turned into items and the events that announce them. One half of the machine,
as pure as the other.

At most one message and one reasoning item are open at a time, and calls stay open until the model turn ends,
since upstreams interleave their arguments. Every item that was added is closed again, with the same id and
index (RESPONSES pitfalls 2–5).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final, Literal, assert_never, cast

from regate_orchestrator.responses.arguments import text_among
from regate_orchestrator.responses.context.sealing import seal
from regate_orchestrator.responses.events import (
    ArgumentsWritten,
    CallOpened,
    ReasoningWritten,
    RefusalWritten,
    TextWritten,
)
from regate_orchestrator.responses.output.citations import clean
from regate_orchestrator.responses.output.emitter import (
    ItemStatus,
    OpenCall,
    OpenMessage,
    OpenReasoning,
    free_text,
    search_item,
)
from regate_orchestrator.responses.prompt import FILE_SEARCH, PromptItem
from regate_orchestrator.responses.request import ClientTool
from regate_orchestrator.responses.state import Output, PendingSearch, State
from regate_orchestrator.values import Json, JsonObject, mint

Written = TextWritten | ReasoningWritten | RefusalWritten | CallOpened | ArgumentsWritten
_TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NO_SUCH_TOOL: Final = "There is no such tool. Use only the tools that were offered."
_NO_MORE_SEARCHES: Final = "No further search is possible. Answer with what was found."


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
            return _open_call(close_message(close_reasoning(state)), event)
        case ArgumentsWritten(slot, text):
            return _write_arguments(state, slot, text)
        case _:
            assert_never(event)


def close_turn(state: State, *, cut: bool) -> State:
    """Return the state with every open item closed, and the searches that the model asked for pending;
    `cut` says that it was stopped.
    """
    last: ItemStatus = "incomplete" if cut else "completed"
    state = close_message(close_reasoning(state, last), last)
    slots = sorted(state.calls)
    for slot in slots:
        call = state.calls[slot]
        # Only the call being written when the turn was cut can lack a part of its arguments; no search is run
        # after a cut.
        whole = not cut or (slot != slots[-1] and call.name != FILE_SEARCH)
        state = _close_call(state, call, "completed" if whole else "incomplete")
    return replace(state, calls={})


def abandon_turn(state: State) -> State:
    """Return the state with every open item closed as incomplete, searches included: nothing more
    will come.
    """
    state = close_message(close_reasoning(state, "incomplete"), "incomplete")
    for slot in sorted(state.calls):
        state = _close_call(state, state.calls[slot], "incomplete")
    for search in state.searches:
        queries = [] if search.query is None else [search.query]
        state = finish_item(state, search.index, search_item(search.item_id, "incomplete", queries, None))
    return replace(state, calls={}, searches=())


def close_reasoning(state: State, status: ItemStatus = "completed") -> State:
    """Return the state without open reasoning."""
    reasoning = state.reasoning
    if reasoning is None:
        return state
    text, item = str(reasoning.text), reasoning.item(status)
    place: dict[str, Json] = {"item_id": reasoning.id, "output_index": reasoning.index}
    if reasoning.summarized:
        emitter = state.emitter.write(
            "response.reasoning_summary_text.done", **place, summary_index=0, text=text
        )
        emitter = emitter.write(
            "response.reasoning_summary_part.done",
            **place,
            summary_index=0,
            part={"type": "summary_text", "text": text},
        )
    else:
        emitter = state.emitter.write("response.reasoning_text.done", **place, content_index=0, text=text)
        emitter = emitter.write(
            "response.content_part.done",
            **place,
            content_index=0,
            part={"type": "reasoning_text", "text": text},
        )
    request, lineage = state.must_header.request, state.outputs[reasoning.index].lineage
    if request.include.encrypted_reasoning:
        sealed = seal(
            state.sealer,
            "reasoning",
            text,
            lineage,
            tenant=state.tenant,
            owner=state.owner,
            model=request.model,
        )
        item = {**item, "encrypted_content": sealed}
    state = replace(
        state,
        emitter=emitter,
        reasoning=None,
        prompted=(*state.prompted, PromptItem(item, text=text, lineage=lineage)),
    )
    return finish_item(state, reasoning.index, item)


def close_message(state: State, status: ItemStatus = "completed") -> State:
    """Return the state without an open message; what was held back as a possible citation marker is
    written first.
    """
    if state.message is None:
        return state
    state = _write_text(state, "", last=True) if state.message.kind == "output_text" else state
    message = state.message
    assert message is not None  # noqa: S101 — INVARIANT: writing text never closes the message
    place: dict[str, Json] = {"item_id": message.id, "output_index": message.index, "content_index": 0}
    if message.kind == "output_text":
        emitter = state.emitter.write(
            "response.output_text.done", **place, text=str(message.text), logprobs=list(message.logprobs)
        )
    else:
        emitter = state.emitter.write("response.refusal.done", **place, refusal=str(message.text))
    emitter = emitter.write("response.content_part.done", **place, part=message.part())
    item = message.item(status)
    state = replace(
        state,
        emitter=emitter,
        message=None,
        prompted=(*state.prompted, PromptItem(item, lineage=state.lineage, turn=state.round)),
    )
    return finish_item(state, message.index, item)


def finish_item(state: State, index: int, body: JsonObject) -> State:
    """Return the state with the item at this index in its final form, announced as done."""
    outputs = list(state.outputs)
    outputs[index] = replace(outputs[index], body=body)
    emitter = state.emitter.write("response.output_item.done", output_index=index, item=body)
    return replace(state, emitter=emitter, outputs=tuple(outputs))


def cite(state: State, marker: int, position: int) -> State:
    """Return the state with the open message citing the file behind a marker; unknown markers and
    repeated places are left out.
    """
    message = state.message
    if message is None or marker not in state.sources:
        return state
    file_id, filename = state.sources[marker]
    annotation: JsonObject = {
        "type": "file_citation",
        "file_id": file_id,
        "filename": filename,
        "index": position,
    }
    if annotation in message.annotations:
        return state
    emitter = state.emitter.write(
        "response.output_text.annotation.added",
        item_id=message.id,
        output_index=message.index,
        content_index=0,
        annotation_index=len(message.annotations),
        annotation=annotation,
    )
    return replace(
        state, emitter=emitter, message=replace(message, annotations=(*message.annotations, annotation))
    )


def add_item(state: State, body: JsonObject) -> State:
    """Return the state with a new output item, announced as added: its index and id are what they
    will stay.
    """
    emitter = state.emitter.write("response.output_item.added", output_index=len(state.outputs), item=body)
    return replace(state, emitter=emitter, outputs=(*state.outputs, Output(body, state.lineage)))


def _open_message(state: State, kind: Literal["output_text", "refusal"]) -> State:
    if state.message is not None and state.message.kind == kind:
        return state
    state = close_message(state)
    message = OpenMessage(mint("msg_"), len(state.outputs), kind)
    state = add_item(state, message.item("in_progress"))
    emitter = state.emitter.write(
        "response.content_part.added",
        item_id=message.id,
        output_index=message.index,
        content_index=0,
        part=message.part(empty=True),
    )
    return replace(state, emitter=emitter, message=message)


def _write_text(
    state: State, piece: str, logprobs: tuple[JsonObject, ...] = (), *, last: bool = False
) -> State:
    message = state.message
    assert message is not None  # noqa: S101 — INVARIANT: callers open the message first
    cleaned = clean(message.held, piece, last=last)
    start = len(message.text)
    emitter = state.emitter
    if cleaned.text:
        place: dict[str, Json] = {"item_id": message.id, "output_index": message.index, "content_index": 0}
        emitter = emitter.write(
            "response.output_text.delta", **place, delta=cleaned.text, logprobs=list(logprobs)
        )
    text, seen = message.text + cleaned.text, message.logprobs + logprobs if logprobs else message.logprobs
    state = replace(
        state, emitter=emitter, message=replace(message, text=text, held=cleaned.held, logprobs=seen)
    )
    for number, offset in cleaned.cited:
        state = cite(state, number, start + offset)
    return state


def _write_refusal(state: State, piece: str) -> State:
    message = state.message
    assert message is not None  # noqa: S101 — INVARIANT: callers open the message first
    emitter = state.emitter.write(
        "response.refusal.delta", item_id=message.id, output_index=message.index, content_index=0, delta=piece
    )
    return replace(state, emitter=emitter, message=replace(message, text=message.text + piece))


def _write_reasoning(state: State, piece: str) -> State:
    reasoning = state.reasoning
    if reasoning is None:
        reasoning = OpenReasoning(
            mint("rs_"), len(state.outputs), state.must_header.request.summarize_reasoning
        )
        state = add_item(state, reasoning.item("in_progress"))
        place: dict[str, Json] = {"item_id": reasoning.id, "output_index": reasoning.index}
        if reasoning.summarized:
            part: JsonObject = {"type": "summary_text", "text": ""}
            emitter = state.emitter.write(
                "response.reasoning_summary_part.added", **place, summary_index=0, part=part
            )
        else:
            emitter = state.emitter.write(
                "response.content_part.added",
                **place,
                content_index=0,
                part={"type": "reasoning_text", "text": ""},
            )
        state = replace(state, emitter=emitter)
    place = {"item_id": reasoning.id, "output_index": reasoning.index}
    if reasoning.summarized:
        emitter = state.emitter.write(
            "response.reasoning_summary_text.delta", **place, summary_index=0, delta=piece
        )
    else:
        emitter = state.emitter.write("response.reasoning_text.delta", **place, content_index=0, delta=piece)
    return replace(state, emitter=emitter, reasoning=replace(reasoning, text=reasoning.text + piece))


def _open_call(state: State, event: CallOpened) -> State:
    tool = offered_tools(state).get(event.name)
    if event.name == FILE_SEARCH and state.searching_offered and state.searches_opened < search_limit(state):
        call = OpenCall(mint("fs_"), len(state.outputs), event.call_id, FILE_SEARCH)
        state = add_item(state, search_item(call.id, "in_progress", [], None))
        emitter = state.emitter.write(
            "response.file_search_call.in_progress", item_id=call.id, output_index=call.index
        )
        state = replace(state, emitter=emitter, searches_opened=state.searches_opened + 1)
    elif tool is not None:
        call = OpenCall(
            mint("ctc_" if tool.custom else "fc_"), len(state.outputs), event.call_id, event.name, tool
        )
        state = add_item(state, call.item("in_progress"))
    else:
        call = OpenCall(mint("fc_"), None, event.call_id, event.name)
    return replace(state, calls={**state.calls, event.slot: call})


def offered_tools(state: State) -> dict[str, ClientTool]:
    """Return the client's tools that the model may call, by wire name: those that policy shows and
    `tool_choice` permits.
    """
    request = state.must_header.request
    if request.tool_choice == "none":
        return {}
    return {
        tool.wire: tool
        for tool in request.client_tools
        if tool.wire not in state.hidden and request.permits(tool.wire)
    }


def search_limit(state: State) -> int:
    """Return how many searches the response may run: the client's limit or the operator's, whichever
    is lower.
    """
    asked = state.must_header.request.max_tool_calls
    return state.limits.max_tool_calls if asked is None else min(asked, state.limits.max_tool_calls)


def _write_arguments(state: State, slot: int, piece: str) -> State:
    call = state.calls.get(slot)
    if call is None or not piece:
        return state
    emitter = state.emitter
    if (
        call.tool is not None and not call.tool.custom
    ):  # the free text of a custom tool is known when its arguments are whole
        emitter = emitter.write(
            "response.function_call_arguments.delta", item_id=call.id, output_index=call.index, delta=piece
        )
    return replace(
        state, emitter=emitter, calls={**state.calls, slot: replace(call, arguments=call.arguments + piece)}
    )


def _close_call(state: State, call: OpenCall, status: ItemStatus) -> State:
    if call.index is None:
        name = call.name if _TOOL_NAME.fullmatch(call.name) else "unknown_tool"
        body = {**replace(call, name=name).item("completed"), "arguments": "{}"}
        note = _NO_MORE_SEARCHES if call.name == FILE_SEARCH else _NO_SUCH_TOOL
        return replace(
            state,
            prompted=(*state.prompted, PromptItem(body, note=note, lineage=state.lineage, turn=state.round)),
        )
    if call.name == FILE_SEARCH and status == "completed":
        pending = PendingSearch(call.index, call.id, call.call_id, _query(str(call.arguments)))
        return replace(state, searches=(*state.searches, pending))
    if call.name == FILE_SEARCH:
        return finish_item(state, call.index, search_item(call.id, "incomplete", [], None))
    index = call.index
    place: dict[str, Json] = {"item_id": call.id, "output_index": index}
    if (
        status == "completed"
        and call.tool is not None
        and not call.tool.custom
        and not str(call.arguments).strip()
    ):
        # Some backends write nothing where there are no arguments; clients, and backends that read it again,
        # want JSON.
        state = replace(
            state, emitter=state.emitter.write("response.function_call_arguments.delta", **place, delta="{}")
        )
        call = replace(call, arguments=call.arguments + "{}")
    item = call.item(status)
    if status == "completed" and call.tool is not None and call.tool.custom:
        text = free_text(str(call.arguments))
        emitter = state.emitter.write("response.custom_tool_call_input.delta", **place, delta=text)
        state = replace(
            state, emitter=emitter.write("response.custom_tool_call_input.done", **place, input=text)
        )
    elif status == "completed":
        name = cast("str", item["name"])
        emitter = state.emitter.write(
            "response.function_call_arguments.done", **place, name=name, arguments=str(call.arguments)
        )
        state = replace(state, emitter=emitter)
    return finish_item(state, index, item)


def _query(arguments: str) -> str | None:
    """Return the query in the arguments, the only one that is read: stores, filters and limits come
    from the request alone.
    """
    query = text_among(arguments, "query")
    return None if query is None or not query.strip() else query
