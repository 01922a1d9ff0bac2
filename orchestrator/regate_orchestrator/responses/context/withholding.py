"""Withholding: what a response that goes on may not use any more, taken out of its context before the model
is called again (I15).

What was said already stays as it was said, with what it rests on. A part of the machine, as pure as the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from regate_orchestrator.lineage import Lineage, SourceKey, touching
from regate_orchestrator.responses.context.history import withheld
from regate_orchestrator.responses.message_parts import GONE
from regate_orchestrator.responses.prompt import PromptItem
from regate_orchestrator.responses.state import State


def withhold(state: State, items: frozenset[str], sources: frozenset[SourceKey]) -> State:
    """Return the state whose context holds neither these items and sources nor what was made from the
    sources.
    """
    if not items and not sources:
        return state
    rests_on_denied = touching(sources)

    def left(prompted: tuple[PromptItem, ...]) -> tuple[PromptItem, ...]:
        return tuple(_left(item, items, sources, rests_on_denied) for item in prompted)

    context = state.context
    return state.with_context(
        history=left(context.history),
        prompted=left(context.prompted),
        kept_apart=left(context.kept_apart),
        lineage=context.lineage.without(sources),
    )


def _left(
    item: PromptItem,
    items: frozenset[str],
    sources: frozenset[SourceKey],
    rests_on_denied: Callable[[Lineage], bool],
) -> PromptItem:
    if item.body.get("id") in items or rests_on_denied(item.lineage):
        return withheld(item.body, turn=item.turn)
    passages = tuple(passage for passage in item.passages if passage.source.key not in sources)
    parts = tuple(
        GONE if part.source is not None and part.source.key in sources else part for part in item.parts
    )
    return replace(item, passages=passages, parts=parts)
