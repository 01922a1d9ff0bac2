"""Recalling: what a request continues from and refers to, fetched before anything of it is decided.

A conversation is held for the response until the turn is stored or released.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import cast

from regate_orchestrator.authz.decisions import Context, Deny, Point, Question
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.errors import NotFound, RegateError
from regate_orchestrator.maintenance.afterwards import Afterwards
from regate_orchestrator.ports import StateStore
from regate_orchestrator.responses.context.history import held
from regate_orchestrator.responses.context.refusals import no_previous
from regate_orchestrator.responses.events import Recalled
from regate_orchestrator.responses.request import ResponseRequest
from regate_orchestrator.rows import ItemWithParent, ResponseRow
from regate_orchestrator.values import ConversationId, JsonObject, ResponseId

_log = logging.getLogger("regate.driver")

Remembered = Mapping[ResponseId, tuple[ResponseRow, ...]]
"""Chains that are kept by a connection rather than in the state store, by their last response (`store:
false` over a WebSocket).
"""


class Recollection:
    """What one response continues from."""

    def __init__(
        self,
        state: StateStore,
        enforcer: Enforcer,
        context: Context,
        response_id: ResponseId,
        remembered: Remembered,
        afterwards: Afterwards,
    ) -> None:
        self._afterwards = afterwards
        self._state = state
        self._enforcer = enforcer
        self._context = context
        self._response_id = response_id
        self._remembered = remembered
        self.earlier: tuple[ResponseRow, ...] = ()
        """The responses continued from, oldest first."""
        self._conversation: ConversationId | None = None
        """The conversation that is held for this response."""

    def was_released(self) -> None:
        """Note that the conversation was released where its turn was stored."""
        self._conversation = None

    async def release(self) -> None:
        """Release the conversation, where its turn did not end by being stored; afterwards, where the state
        store does not answer.
        """
        conversation, self._conversation = self._conversation, None
        if conversation is None:
            return

        async def unlock() -> None:
            await self._state.conversations.unlock(self._context.principal, conversation, self._response_id)

        try:
            await unlock()
        except RegateError as error:
            self._afterwards.do(unlock)
            _log.error(
                "conversation_left_locked", extra={"conversation": conversation, "cause": error.message}
            )

    async def recall(self, request: ResponseRequest) -> Recalled:
        """Return what was found. Raises `InvalidRequest` or `NotFound`; absent, foreign and denied
        are one.
        """
        referenced = [cast("str", item["id"]) for item in request.items if item["type"] == "item_reference"]
        found = (
            await self._state.items.with_parents(self._context.principal, referenced) if referenced else {}
        )
        if request.conversation is not None:
            return Recalled(await self._recall_conversation(request.conversation), referenced=found)
        if request.previous_response_id is None:
            return Recalled(referenced=found)
        self.earlier = turns = tuple(await self._chain(request.previous_response_id))
        return Recalled(held(turns), turns[-1].status, found)

    async def _chain(self, response: ResponseId) -> Sequence[ResponseRow]:
        remembered = self._remembered.get(response)
        if remembered is None:
            turns = await self._state.responses.chain(self._context.principal, response)
        else:
            turns = [row for row in [await self._present(row) for row in remembered] if row is not None]
        if not turns or (remembered is not None and len(turns) < len(remembered)):
            raise no_previous(response)
        return turns

    async def _present(self, row: ResponseRow) -> ResponseRow | None:
        """Return a remembered response as it is now. What is stored is as the store has it: deleted,
        it is gone here as well.
        """
        return await self._state.responses.get(self._context.principal, row.id) if row.body["store"] else row

    async def _recall_conversation(self, conversation: ConversationId) -> tuple[ItemWithParent, ...]:
        """Hold the conversation for this response and return its items. Absent, foreign and denied are one.

        A turn adds to the conversation, so it is decided as a change of it: who may only read it must not
        hold it up.
        """
        row = await self._state.conversations.get(self._context.principal, conversation)
        view: JsonObject = {"id": ""} if row is None else row.view()
        question = Question(Point.HISTORY, "conversation.update", {"item": view}, about=conversation)
        decision = await self._enforcer.decide(self._context, question)
        items = None
        if row is not None and not isinstance(decision, Deny):
            # Before it is held: whatever becomes of this call, it is released.
            self._conversation = conversation
            items = await self._state.conversations.lock(
                self._context.principal, conversation, self._response_id
            )
        if row is None or items is None:
            raise NotFound(
                f"Conversation with id '{conversation}' not found.", param="conversation", code="not_found"
            )
        return tuple(ItemWithParent(row.view(), item) for item in items)
