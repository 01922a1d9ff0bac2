"""The application: the closed table of routes, and nothing else is served. What is not in the table is a 404
in the envelope.

Routing goes by `scope["path"]`; nothing reads `request.url`, which is rebuilt from the Host header. Every
route below `/v1` is authenticated before its handler runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router, WebSocketRoute, request_response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from regate_gateway.http.errors import MethodNotAllowed
from regate_gateway.openapi import front, specification
from regate_gateway.routes import conversations, explain, health
from regate_gateway.routes.call import Call, Caller
from regate_gateway.routes.chat import proxy
from regate_gateway.routes.files import handlers as files
from regate_gateway.routes.files import uploads
from regate_gateway.routes.idempotency import Handler, Retrieval, once
from regate_gateway.routes.prompts import handlers as prompts
from regate_gateway.routes.responses import handlers as responses
from regate_gateway.routes.responses import socket as responses_socket
from regate_gateway.routes.vector_stores import file_batches
from regate_gateway.routes.vector_stores import files as store_files
from regate_gateway.routes.vector_stores import handlers as vector_stores
from regate_gateway.services import Services
from regate_orchestrator.errors import NotFound

ROUTES: Final[tuple[tuple[str, str, Handler], ...]] = (
    ("GET", "/v1/models", proxy.list_models),
    ("GET", "/v1/models/{model:path}", proxy.retrieve_model),
    ("POST", "/v1/chat/completions", proxy.chat_completions),
    ("POST", "/v1/completions", proxy.completions),
    ("POST", "/v1/embeddings", proxy.embeddings),
    ("POST", "/v1/responses", responses.create),
    ("GET", "/v1/responses", responses.listing),
    ("POST", "/v1/responses/compact", responses.compact),
    ("POST", "/v1/responses/input_tokens", responses.input_tokens),
    ("GET", "/v1/responses/{response_id}", responses.retrieve),
    ("POST", "/v1/responses/{response_id}/cancel", responses.cancel),
    ("DELETE", "/v1/responses/{response_id}", responses.delete),
    ("GET", "/v1/responses/{response_id}/input_items", responses.input_items),
    ("POST", "/v1/conversations", conversations.create),
    ("GET", "/v1/conversations/{conversation_id}", conversations.retrieve),
    ("POST", "/v1/conversations/{conversation_id}", conversations.update),
    ("DELETE", "/v1/conversations/{conversation_id}", conversations.delete),
    ("POST", "/v1/conversations/{conversation_id}/items", conversations.append_items),
    ("GET", "/v1/conversations/{conversation_id}/items", conversations.list_items),
    ("GET", "/v1/conversations/{conversation_id}/items/{item_id}", conversations.retrieve_item),
    ("DELETE", "/v1/conversations/{conversation_id}/items/{item_id}", conversations.delete_item),
    ("POST", "/v1/files", files.upload),
    ("POST", "/v1/uploads", uploads.create),
    ("POST", "/v1/uploads/{upload_id}/parts", uploads.add_part),
    ("POST", "/v1/uploads/{upload_id}/complete", uploads.complete),
    ("POST", "/v1/uploads/{upload_id}/cancel", uploads.cancel),
    ("GET", "/v1/files", files.listing),
    ("GET", "/v1/files/{file_id}", files.retrieve),
    ("GET", "/v1/files/{file_id}/content", files.content),
    ("DELETE", "/v1/files/{file_id}", files.delete),
    ("POST", "/v1/vector_stores", vector_stores.create),
    ("GET", "/v1/vector_stores", vector_stores.listing),
    ("GET", "/v1/vector_stores/{store_id}", vector_stores.retrieve),
    ("POST", "/v1/vector_stores/{store_id}", vector_stores.update),
    ("DELETE", "/v1/vector_stores/{store_id}", vector_stores.delete),
    ("POST", "/v1/vector_stores/{store_id}/search", vector_stores.search),
    ("POST", "/v1/vector_stores/{store_id}/files", store_files.attach),
    ("GET", "/v1/vector_stores/{store_id}/files", store_files.listing),
    ("GET", "/v1/vector_stores/{store_id}/files/{file_id}", store_files.retrieve),
    ("POST", "/v1/vector_stores/{store_id}/files/{file_id}", store_files.update),
    ("DELETE", "/v1/vector_stores/{store_id}/files/{file_id}", store_files.detach),
    ("GET", "/v1/vector_stores/{store_id}/files/{file_id}/content", store_files.content),
    ("POST", "/v1/vector_stores/{store_id}/file_batches", file_batches.create),
    ("GET", "/v1/vector_stores/{store_id}/file_batches/{batch_id}", file_batches.retrieve),
    ("POST", "/v1/vector_stores/{store_id}/file_batches/{batch_id}/cancel", file_batches.cancel),
    ("GET", "/v1/vector_stores/{store_id}/file_batches/{batch_id}/files", file_batches.list_files),
    ("POST", "/v1/prompts", prompts.create),
    ("GET", "/v1/prompts", prompts.listing),
    ("GET", "/v1/prompts/{prompt_id}", prompts.retrieve),
    ("POST", "/v1/prompts/{prompt_id}", prompts.update),
    ("DELETE", "/v1/prompts/{prompt_id}", prompts.delete),
    ("POST", "/v1/prompts/{prompt_id}/versions", prompts.add_version),
    ("GET", "/v1/prompts/{prompt_id}/versions", prompts.versions),
    ("GET", "/v1/prompts/{prompt_id}/versions/{version}", prompts.version),
    ("GET", "/v1/regate/explain", explain.explain),
)

IDEMPOTENT: Final[Mapping[str, str]] = {
    "/v1/responses": "/v1/responses/{response_id}",
    "/v1/conversations": "/v1/conversations/{conversation_id}",
    "/v1/files": "/v1/files/{file_id}",
    "/v1/vector_stores": "/v1/vector_stores/{store_id}",
    "/v1/vector_stores/{store_id}/files": "/v1/vector_stores/{store_id}/files/{file_id}",
    "/v1/prompts": "/v1/prompts/{prompt_id}",
    "/v1/vector_stores/{store_id}/file_batches": "/v1/vector_stores/{store_id}/file_batches/{batch_id}",
}
"""The creates that take an `Idempotency-Key`, each with the route that retrieves what it made
(`routes/idempotency.py`).
"""


SOCKETS: Final = ("/v1/responses",)
"""The paths that can be upgraded to a WebSocket."""


def build_app(services: Services) -> ASGIApp:
    """Return the application, without the middleware that stands before it."""
    routes = [
        Route(path, _Named(path, _Endpoint(services, _idempotent(method, path, handler))), methods=[method])
        for method, path, handler in ROUTES
    ]
    open_routes = [
        Route(path, _Named(path, endpoint), methods=["GET"])
        for path, endpoint in (
            ("/", request_response(front.page)),
            ("/healthz", request_response(health.alive)),
            ("/readyz", health.Readiness(services)),
            ("/metrics", health.Exposition(services)),
            ("/openapi.json", request_response(specification.specification)),
        )
    ]
    sockets = [WebSocketRoute(path, _Named(path, _SocketEndpoint(services))) for path in SOCKETS]
    exact = {
        (method, path): route.app
        for (method, path, _), route in zip(ROUTES, routes, strict=True)
        if "{" not in path
    }
    return _Table(
        Router([*routes, *open_routes, *sockets], redirect_slashes=False, default=_not_listed), exact
    )


def _idempotent(method: str, path: str, handler: Handler) -> Handler:
    """Return the handler, which answers a create that is sent again, under the same key, with what is
    there already.
    """
    if method != "POST" or path not in IDEMPOTENT:
        return handler
    retrievals = [
        Retrieval(template, retrieve)
        for verb, template, retrieve in ROUTES
        if (verb, template) == ("GET", IDEMPOTENT[path])
    ]

    async def create(call: Call) -> Response:
        return await once(call, handler, retrievals[0])

    return create


class _Table:
    """The router, with its own refusals turned into ours, and before it the routes whose path holds nothing
    but itself. Not Starlette's application, whose error middleware would answer before the edge.
    """

    def __init__(self, router: Router, exact: Mapping[tuple[str, str], ASGIApp]) -> None:
        self._router = router
        self._exact = exact

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (app := self._exact.get((scope["method"], scope["path"]))) is not None:
            await app(scope, receive, send)
            return
        scope["app"] = self  # so that the router raises for a wrong method, rather than answer in plain text
        try:
            await self._router(scope, receive, send)
        except HTTPException as error:
            method, path = scope["method"], scope["path"]
            allowed = (error.headers or {}).get("Allow", "").split(", ")
            raise MethodNotAllowed(
                f"Invalid method for this URL ({method} {path}).", allowed=allowed
            ) from error


# The ASGI signature
async def _not_listed(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
    raise NotFound(f"Invalid URL ({scope['method']} {scope['path']}).", code="unknown_url")


class _Named:
    """A route that says its template to the edge: logs and metrics show that, and never the path that
    a client chose.
    """

    def __init__(self, template: str, app: ASGIApp) -> None:
        self._template = template
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["path_template"] = self._template
        await self._app(scope, receive, send)


class _Endpoint:
    """One route: authenticates, then runs the handler and sends its answer."""

    def __init__(self, services: Services, handler: Handler) -> None:
        self._services = services
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        context = await self._services.authenticator.context(scope)
        response = await self._handler(Call(self._services, context, request))
        await response(scope, receive, send)


class _SocketEndpoint:
    """The WebSocket: authenticates, then hands the connection over, with what authenticates again later."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        context = await self._services.authenticator.context(scope)
        await responses_socket.serve(Caller(self._services, context), WebSocket(scope, receive, send))
