"""A server of HTTP for tests of engines that are asked over it: it gives the answer it is told to, and keeps
what it was asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    method: str
    path: str
    authorization: str | None
    body: bytes


Answering = Callable[[Asked], tuple[int, bytes]]


@dataclass
class Answers:
    """A running server; what it answers may be changed at any time."""

    answering: Answering
    asked: list[Asked] = field(default_factory=list)
    url: str = ""


def always(status: int, document: object) -> Answering:
    """Answer everything alike."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return lambda _asked: (status, body)


@contextmanager
def running_answers(answering: Answering) -> Iterator[Answers]:
    """Yield a server on a loopback port; it is gone at the end."""
    answers = Answers(answering)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            asked = Asked(self.command, self.path, self.headers.get("Authorization"), self.rfile.read(length))
            answers.asked.append(asked)
            status, body = answers.answering(asked)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815 — as the base class calls them

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        answers.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield answers
        finally:
            server.shutdown()
            thread.join()
