"""Conversations: what a client puts into one, decided before it is kept. Turns of responses come in by
another way (`responses/driver.py`).

What is in a conversation enters later prompts as history. So what can only be decided when it arrives is
decided here: outputs of tools, and items of ours that are referred to. A summary that we sealed keeps the
lineage it was sealed with; what a client wrote has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from regate_orchestrator.authz.decisions import Context, Decision, Question
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.errors import InvalidRequest, NotPermitted
from regate_orchestrator.guards.checking import Guards
from regate_orchestrator.ports import ItemState
from regate_orchestrator.responses.context.gate import Gate
from regate_orchestrator.responses.context.guarding import guard_items
from regate_orchestrator.responses.context.history import history_of
from regate_orchestrator.responses.context.refusals import no_item
from regate_orchestrator.responses.context.sealing import Sealer, unseal
from regate_orchestrator.responses.context.sent_results import denied_from, sent_results
from regate_orchestrator.rows import ItemWithParent, StoredItem
from regate_orchestrator.values import JsonObject


@dataclass(frozen=True, slots=True)
class ConversationWriter:
    """Decides what clients put into conversations."""

    enforcer: Enforcer
    items: ItemState
    gate: Gate
    sealer: Sealer
    guards: Guards

    async def admit(
        self,
        context: Context,
        phase: str,
        items: Sequence[JsonObject],
        *,
        questions: Sequence[Question] = (),
        notes: JsonObject,
    ) -> tuple[list[StoredItem], list[Decision]]:
        """Return the items as they are kept, and the decisions on the questions; all is recorded together,
        with the notes.

        Raises `NotFound` for a reference to what is absent, invisible or withheld, `NotPermitted` for a
        tool's output that the policy does not admit, and `InvalidRequest` for what was sealed elsewhere, for
        a use that a conversation has not, or for what guards block.
        """
        referenced = [cast("str", item["id"]) for item in items if item["type"] == "item_reference"]
        found = await self.items.with_parents(context.principal, referenced) if referenced else {}
        arrived = [self._arrived(context, item, found) for item in items]
        history = history_of(one for one in arrived if isinstance(one, ItemWithParent))
        asked = await self.gate.ask(context, history)
        batch = replace(asked.batch, tool_results=(*asked.batch.tool_results, *sent_results(items)))
        decisions, admitted = await self.enforcer.decide_all(
            context, phase, [*questions, *asked.questions], batch=batch, notes={**notes, **asked.notes}
        )
        if denied_from(len(asked.results), batch, admitted):
            raise NotPermitted(
                "The policy does not admit a function call output among these items.", param="items"
            )
        passed = await self.gate.settled(context, asked, decisions[len(questions) :], admitted)
        for item, shown in passed.left.items:
            if not shown:
                raise no_item(item.id, param="items")
        own = [one for one in arrived if isinstance(one, StoredItem)]
        guarded = iter(await guard_items(self.guards, context, own, param="items"))
        kept = [one.item if isinstance(one, ItemWithParent) else next(guarded) for one in arrived]
        return kept, decisions[: len(questions)]

    def _arrived(
        self, context: Context, item: JsonObject, found: Mapping[str, ItemWithParent]
    ) -> StoredItem | ItemWithParent:
        """Return an item as it is kept: one of ours that is referred to as it is, with what holds it."""
        identifier = cast("str", item["id"])
        match item["type"]:
            case "item_reference":
                if identifier not in found:
                    raise no_item(identifier, param="items")
                return found[identifier]
            case "compaction":
                who = context.principal
                sealed = unseal(self.sealer, item, tenant=who.tenant, owner=who.id, model="", param="items")
                return StoredItem(identifier, item, "input", sealed.lineage)
            case "reasoning" if item.get("encrypted_content"):
                message = (
                    "Encrypted reasoning can be sent to the model that made it only: leave "
                    "'encrypted_content' out of a conversation."
                )
                raise InvalidRequest(message, param="items", code="unsupported_parameter")
            case _:
                return StoredItem(identifier, item, "input")
