"""One authenticated call: what every route handler is given."""

from __future__ import annotations

from collections.abc import Collection, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from starlette.requests import Request

from regate_gateway.composition.services import Services
from regate_gateway.http.bodies import read_json
from regate_gateway.http.connection import while_connected
from regate_gateway.http.fields import Query
from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.rows import Page
from regate_orchestrator.values import Json, JsonObject

Result = TypeVar("Result")
_MEANING: Final = "body_meaning"


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever asks, over whatever transport, and what may be used for them."""

    services: Services
    context: Context


@dataclass(frozen=True, slots=True)
class Call(Caller):
    """A request whose caller is known. Handlers take one and return a Starlette response."""

    request: Request

    def path(self, name: str) -> str:
        """Return a path parameter."""
        return str(self.request.path_params[name])

    def say(self, meaning: str) -> None:
        """Tell what the body meant, where it was no JSON and was read as it came: retries are told by
        it (`http/idempotency.py`).
        """
        self.request.scope["state"][_MEANING] = meaning

    @property
    def meaning(self) -> str | None:
        """What the body was said to mean."""
        found = self.request.scope["state"].get(_MEANING)
        return found if isinstance(found, str) else None

    async def json(self) -> dict[str, Json]:
        """Return the JSON body, read once under the limits."""
        return await read_json(
            self.request.scope, self.request.receive, limit=self.services.settings.listen.max_body_bytes
        )

    def room(self, path: str, size: int) -> AbstractAsyncContextManager[None]:
        """Hold room for so many bytes that this request is about to have stored. Raises `NotPermitted`
        where there is none.
        """
        view: JsonObject = {"method": "POST", "path": path, "model": "", "stream": False, "tool_types": []}
        return self.services.storage.room(self.context, view, size=size)

    async def while_connected(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Return what the work returns, ending it when the client leaves. The body must have been read."""
        return await while_connected(self.request.receive, work)

    def page(self, *, default: int = 20, most: int = 100, known: Collection[str] = ()) -> Page:
        """Return which part of a list is asked for. `known` are the list's own query parameters."""
        query = self.query()
        query.refuse_unknown({"limit", "order", "after", "before", *known})
        order = query.choice("order", ("asc", "desc"), default="desc")
        return Page(
            limit=query.integer("limit", least=1, most=most, default=default),
            order="asc" if order == "asc" else "desc",
            after=query.maybe_string("after", most=256),
            before=query.maybe_string("before", most=256),
        )

    def query(self) -> Query:
        """Return the query string's parameters."""
        return Query(self.request.scope)
