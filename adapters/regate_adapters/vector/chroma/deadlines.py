"""Deadlines for what threads ask of a Chroma server. Not when they are: `store.py` says that.

HTTP clients have deadlines for each piece that is received, and not for an answer: one that drips lasts as
long as it likes. So each read and write of a socket gets what is left of the time of its thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl

    import httpx
    from httpcore import NetworkBackend, NetworkStream


class Deadlines:
    """Each thread has one of its own; no exchange may take longer than `longest_s` in any case."""

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._of_thread = threading.local()

    @contextmanager
    def until(self, give_up: float) -> Iterator[None]:
        """Have this thread's exchanges fail at that time of the monotonic clock."""
        self._of_thread.give_up = give_up
        try:
            yield
        finally:
            del self._of_thread.give_up

    def left_s(self, error: type[Exception]) -> float:
        """Return how long the next exchange may take; raises the error when the time is up."""
        left: float = getattr(self._of_thread, "give_up", float("inf")) - time.monotonic()
        if left <= 0:
            raise error("the time for a Chroma server's answer is up")
        return min(left, self._longest_s)

    def bound(self, server: Any) -> httpx.Client:
        """Return the session of Chroma's client of a server, whose connections have these deadlines from
        now on. No public way leads there.
        """
        session: httpx.Client = server._session  # noqa: SLF001
        for transport in (session._transport, *session._mounts.values()):  # noqa: SLF001
            if transport is not None:
                pool: Any = transport._pool  # type: ignore[attr-defined]  # noqa: SLF001
                pool._network_backend = _backend(self)  # noqa: SLF001
        return session


def _backend(deadlines: Deadlines) -> NetworkBackend:
    """Return what opens connections with these deadlines. httpx is loaded with Chroma, and not before."""
    import httpcore

    class Stream(httpcore.NetworkStream):
        def __init__(self, inner: NetworkStream) -> None:
            self._inner = inner

        def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
            return self._inner.read(max_bytes, deadlines.left_s(httpcore.ReadTimeout))

        def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
            self._inner.write(buffer, deadlines.left_s(httpcore.WriteTimeout))

        def close(self) -> None:
            self._inner.close()

        def start_tls(
            self,
            ssl_context: ssl.SSLContext,
            server_hostname: str | None = None,
            timeout: float | None = None,  # noqa: ARG002
        ) -> NetworkStream:
            left = deadlines.left_s(httpcore.ConnectTimeout)
            return Stream(self._inner.start_tls(ssl_context, server_hostname, left))

        def get_extra_info(self, info: str) -> Any:
            return self._inner.get_extra_info(info)

    class Backend(httpcore.SyncBackend):
        def connect_tcp(
            self,
            host: str,
            port: int,
            timeout: float | None = None,  # noqa: ARG002
            local_address: str | None = None,
            socket_options: Iterable[Any] | None = None,
        ) -> NetworkStream:
            left = deadlines.left_s(httpcore.ConnectTimeout)
            return Stream(super().connect_tcp(host, port, left, local_address, socket_options))

    return Backend()
