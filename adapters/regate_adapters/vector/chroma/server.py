"""A Chroma server (`chroma run`) as the place of `store.py`: what several gateways share. The filters and the
layout are the same.

Chroma's client knows no deadline, neither for its requests nor for those that making it takes. So each of its
connections gets one before it is used (`deadlines.py`). Nor does closing the client close its connections, so
that is done here too.
"""

from __future__ import annotations

import http.client
import json
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from regate_adapters.vector.chroma.deadlines import Deadlines
from regate_adapters.vector.chroma.place import quiet_settings
from regate_orchestrator.errors import ConfigurationError, VectorStoreUnavailable

if TYPE_CHECKING:
    from chromadb.api import ClientAPI
    from chromadb.auth import UserIdentity

_HEARTBEAT: Final = "/api/v2/heartbeat"
_PROBE_SECONDS: Final = 1.5
_MAX_BYTES: Final = 4_096


class ChromaServer:
    """A Chroma server at an http or https address. It has no accounts: only gateways may be able to reach it.

    Any number of gateways may search at once. A chunk is replaced by a deletion and an addition, since Chroma
    knows no transaction: while that goes on another gateway may not find it, but never finds it with the
    stamp it had.
    """

    most_open = None
    is_shared = True

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._deadlines = Deadlines(timeout_s)
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if (
            parts.scheme not in {"http", "https"}
            or not parts.hostname
            or "@" in parts.netloc
            or parts.path.strip("/")
            or parts.query
        ):
            raise ConfigurationError(
                "vector.stores: url of a Chroma server must be http://host:port, without path, user "
                "name or password"
            )
        if port == -1:
            raise ConfigurationError("vector.stores: url of a Chroma server has no valid port")
        self._is_secure = parts.scheme == "https"
        self._host = parts.hostname
        self._port = port or (443 if self._is_secure else 8000)
        self._sessions: tuple[Any, ...] = ()

    def until(self, give_up: float) -> AbstractContextManager[None]:
        """Have this thread's exchanges with the server fail at that time."""
        return self._deadlines.until(give_up)

    def hold(self) -> None:
        """Load the client, so that no caller's time goes into that. Connects to nothing: the server may start
        after the gateway, and readiness says whether it answers.
        """
        from chromadb.api import client, fastapi  # noqa: F401 — to have them loaded

    def release(self) -> None:
        """Close the client's connections."""
        sessions, self._sessions = self._sessions, ()
        for session in sessions:
            session.close()

    def client(self) -> ClientAPI:
        """Return a client of the server, whose requests have a deadline; so have those that make it."""
        from chromadb.api.client import Client

        deadlines, sessions = self._deadlines, []

        class Bounded(Client):  # type: ignore[misc]  # Chroma has no types
            """Asks for the identity with one session first, and for tenant and database with another."""

            def get_user_identity(self) -> UserIdentity:
                sessions.append(deadlines.bound(self._server))
                return super().get_user_identity()

            def _validate_tenant_database(self, tenant: str, database: str) -> None:
                sessions.append(deadlines.bound(self._admin_client._server))  # noqa: SLF001 — its own
                super()._validate_tenant_database(tenant, database)

        settings = quiet_settings(
            chroma_api_impl="chromadb.api.fastapi.FastAPI",
            chroma_server_host=self._host,
            chroma_server_http_port=self._port,
            chroma_server_ssl_enabled=self._is_secure,
        )
        try:
            client = Bounded(settings=settings)
        except BaseException:
            for session in sessions:
                session.close()
            raise
        self._sessions = tuple(sessions)
        return client

    # A request of our own has a deadline before a client is there
    def probe(self, client: ClientAPI | None) -> None:  # noqa: ARG002
        """Ask the server for its heartbeat."""
        kind = http.client.HTTPSConnection if self._is_secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=_PROBE_SECONDS)
        try:
            connection.request("GET", _HEARTBEAT)
            answer = connection.getresponse()
            body = json.loads(answer.read(_MAX_BYTES))
        finally:
            connection.close()
        if answer.status != http.HTTPStatus.OK or "nanosecond heartbeat" not in body:
            raise VectorStoreUnavailable(
                f"what answers at the Chroma server's address is none (status {answer.status})"
            )
