"""One authenticated call: what every route handler is given."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from starlette.requests import Request

from regate_gateway.http.bodies import read_json
from regate_gateway.http.connection import while_connected
from regate_gateway.http.models import RequestModel
from regate_gateway.http.queries import read_query
from regate_gateway.services import Services
from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.values import Json, JsonObject

Result = TypeVar("Result")
Model = TypeVar("Model", bound=RequestModel)
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
        it (`routes/idempotency.py`).
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

    async def body(self, model: type[Model]) -> Model:
        """Return the JSON body, checked. Raises `InvalidRequest`."""
        return model.read(await self.json())

    def room(self, path: str, size: int) -> AbstractAsyncContextManager[None]:
        """Hold room for so many bytes that this request is about to have stored. Raises `NotPermitted`
        where there is none.
        """
        return self.services.storage.room(self.context, request_view("POST", path, ""), size=size)

    async def while_connected(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Return what the work returns, ending it when the client leaves."""
        return await while_connected(self.request.scope, work)

    def query(self, model: type[Model]) -> Model:
        """Return the query string's parameters, checked. Raises `InvalidRequest`."""
        return read_query(model, self.request.scope)


def request_view(
    method: str, path: str, model: str, *, stream: bool = False, tool_types: Sequence[str] = ()
) -> JsonObject:
    """Return a request as policies see it (`rego/schemas/input/route.json`)."""
    return {"method": method, "path": path, "model": model, "stream": stream, "tool_types": list(tool_types)}
