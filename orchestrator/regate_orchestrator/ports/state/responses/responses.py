"""Responses in the state store."""

from __future__ import annotations

from typing import Protocol

from regate_orchestrator.filters.expression import FilterPlan
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import Page, ResponseRow, Rows
from regate_orchestrator.values import ResponseId


class ResponseState(Protocol):
    """Keeps responses with their items."""

    async def save(self, row: ResponseRow, *, is_update: bool = False) -> None:
        """Store the response and its items, replacing an earlier state of the same response. Must be durable
        when it returns.

        With `is_update` the earlier state must be there: one that was deleted must not come back, and
        `NotFound` is raised.

        Of a response in a conversation, `completed` and `incomplete` must append its items to the
        conversation (an id that is there already is not appended again) and release the lock, in the same
        transaction; `failed` and `cancelled` must release the lock alone. A turn whose response does not hold
        the lock must neither go on nor be appended: nothing is stored then, and `StateUnavailable` raised.

        A response that `end_interrupted` took from this gateway must stay as it is: nothing is stored then,
        and `GatewayStopped` raised.
        """
        ...

    async def get(self, principal: Principal, response: ResponseId) -> ResponseRow | None:
        """Return the response with its items."""
        ...

    async def chain(self, principal: Principal, response: ResponseId) -> list[ResponseRow] | None:
        """Return the response and all it continues from, oldest first; None when any link is absent or
        invisible.
        """
        ...

    async def status(self, principal: Principal, response: ResponseId) -> str | None:
        """Return the status of the response. Must be cheap: whoever waits for its end asks again
        and again.
        """
        ...

    async def request_cancel(self, principal: Principal, response: ResponseId) -> bool:
        """Ask the gateway that makes this background response to cancel it.

        Return False when no other gateway that is present makes it: it has ended, is this gateway's own, or
        was interrupted.
        """
        ...

    async def cancel_requests(self) -> list[ResponseId]:
        """Return the responses, of all tenants, that this gateway makes and was asked to cancel. Must
        be cheap: it is asked every second.
        """
        ...

    async def delete(self, principal: Principal, response: ResponseId) -> bool:
        """Delete the response and its items."""
        ...

    async def page(self, principal: Principal, plan: FilterPlan, page: Page) -> Rows[ResponseRow]:
        """Return a page of the response rows (without items) that the plan permits."""
        ...
