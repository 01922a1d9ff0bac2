"""Compaction: a conversation that grew too long is summarised by the model itself, and the summary stands for
it from then on.

The turn being answered is never summarised, so that nothing of it is lost. The summary leaves sealed
(`responses/context/sealing.py`), with the lineage of everything it was made from: it is decided again like
any answer when it comes back. A part of the machine, as pure as the rest.
"""

from __future__ import annotations

from typing import Final

from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.model_events import (
    ArgumentsWritten,
    CallOpened,
    ReasoningWritten,
    RefusalWritten,
    TextWritten,
)
from regate_orchestrator.responses.context.sealing import seal
from regate_orchestrator.responses.output.emitter import Text
from regate_orchestrator.responses.output.items import add_item, finish_item
from regate_orchestrator.responses.prompt import (
    PromptItem,
    build_prompt,
    since_compaction,
    split_at_last_user,
)
from regate_orchestrator.responses.state import State
from regate_orchestrator.values import Json, JsonObject, mint

_INSTRUCTIONS: Final = (
    "Summarise the conversation above so that it can be continued from your summary alone. Keep every "
    "fact, name, number, decision, open "
    "question and instruction that may still matter, and what each tool returned. Write the summary only."
)


def begin(state: State) -> State:
    """Return the state about to write a summary, where one is wanted and there is something to
    summarise; else the state as it is.
    """
    request = state.request
    if not request.compact and request.compact_threshold is None:
        return state
    items = since_compaction([*state.context.history, *state.context.prompted])
    if request.compact or request.compact_threshold is None:
        return state.with_context(summary=Text(), history=(), prompted=tuple(items))
    earlier, current = split_at_last_user(items)
    try:
        tokens = build_prompt(request.instructions, items).tokens
        build_prompt(None, earlier)
    # Unpaired calls: of the whole they are the caller's fault, told later; of the earlier part, no place to
    # cut
    except InvalidRequest:
        return state
    if tokens < request.compact_threshold or not any(item.body["type"] != "compaction" for item in earlier):
        return state
    return state.with_context(summary=Text(), history=(), prompted=tuple(earlier), kept_apart=tuple(current))


def messages(state: State) -> list[Json]:
    """Return the messages that ask for the summary."""
    prompt = build_prompt(state.request.instructions, state.context.prompted)
    return [*prompt.messages, {"role": "user", "content": _INSTRUCTIONS}]


def write(
    state: State, event: TextWritten | RefusalWritten | ReasoningWritten | CallOpened | ArgumentsWritten
) -> State:
    """Return the state after a piece of the summary; what is no text of it is left out."""
    if isinstance(event, TextWritten) and state.context.summary is not None:
        return state.with_context(summary=state.context.summary + event.text)
    return state


def finish(state: State) -> State:
    """Return the state with the summary as an output item, in place of everything that it stands for."""
    context, text = state.context, str(state.context.summary or "")
    of = {"tenant": state.turn.tenant, "owner": state.turn.owner, "model": state.request.model}
    sealed = seal(state.sealer, "compaction", text, context.lineage, **of)
    item: JsonObject = {"id": mint("cmp_"), "type": "compaction", "encrypted_content": sealed}
    state = finish_item(add_item(state, item), len(state.output.items), item)
    summary = PromptItem(item, text=text, lineage=context.lineage)
    return state.with_context(
        summary=None, history=(), prompted=(summary, *context.kept_apart), kept_apart=()
    )
