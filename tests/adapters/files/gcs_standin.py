"""What Google documents of Cloud Storage's JSON API, as far as it is used here, over objects in memory: a server
for tests that no emulator is there for. It refuses what Google refuses, and can be told to fail as it may.

From "Uploads and downloads", "Resumable uploads", "Error codes", "Retry strategy" and "Using OAuth 2.0 for Server
to Server Applications". Not Google: what is not documented is not here.
"""

from __future__ import annotations

import json
import re
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

_UNIT = 256 * 1024
_SPAN = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")
_TOKEN_PATH = "/computeMetadata/v1/instance/service-accounts/default/token"


@dataclass
class Session:
    """A resumable upload."""

    name: str
    data: bytearray = field(default_factory=bytearray)


@dataclass
class Standin:
    """The server's state, and what is to go wrong."""

    bucket: str = "regate-files"
    url: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    tokens: set[str] | None = None
    """Those that are taken; None where all requests are let in."""
    public_key: RSAPublicKey | None = None
    expires_in: int = 3_600
    is_google: bool = True
    failing: list[tuple[str, int]] = field(default_factory=list)
    """The requests to fail next, once each: what is asked, and with which status."""
    losing: list[str] = field(default_factory=list)
    """The requests to carry out next without an answer, once each."""
    keeping: list[int] = field(default_factory=list)
    """How many bytes of the next parts are kept."""
    seen: Counter[str] = field(default_factory=Counter)
    spans: list[str] = field(default_factory=list)

    @web.middleware
    async def guarded(self, request: web.Request, handler: web.Handler) -> web.StreamResponse:
        """Let in who may come in, and let go wrong what is to."""
        asked = str(request.match_info.route.name)
        self.seen[asked] += 1
        for place, (name, status) in enumerate(self.failing):
            if name == asked:
                del self.failing[place]
                return failure(status, "backendError")
        if asked not in {"part", "cancel", "token", "metadata"} and self.tokens is not None:
            scheme, _, token = request.headers.get("Authorization", "").partition(" ")
            if scheme != "Bearer" or token not in self.tokens:
                return failure(401, "authError")
        if asked in {"part", "cancel"}:
            assert "Authorization" not in request.headers  # the address is the credential
        answer: web.StreamResponse = await handler(request)
        if asked in self.losing:
            self.losing.remove(asked)
            assert request.transport is not None
            request.transport.abort()
        return answer

    async def begin_or_store(self, request: web.Request) -> web.Response:
        if request.match_info["bucket"] != self.bucket:
            return failure(404, "notFound")
        name = request.query["name"]
        if request.query["uploadType"] == "media":
            self.objects[name] = await request.read()
            return web.json_response(self._described(name))
        identifier = secrets.token_hex(8)
        self.sessions[identifier] = Session(name)
        return web.Response(headers={"Location": f"{self.url}/session/{identifier}"})

    async def part(self, request: web.Request) -> web.Response:
        session = self.sessions.get(request.match_info["session"])
        if session is None:
            return failure(410, "gone")
        self.spans.append(request.headers["Content-Range"])
        span = _SPAN.fullmatch(request.headers["Content-Range"])
        assert span is not None
        first, last, total = span.groups()
        data = await request.read()
        if first is not None:
            is_last = total == str(int(last) + 1)
            if len(data) != int(last) - int(first) + 1 or (not is_last and len(data) % _UNIT):
                return failure(400, "badRequest")
            if int(first) > len(session.data):
                return failure(503, "backendError")
            data = data[len(session.data) - int(first) :]  # what was kept already is ignored
            session.data += data[: self.keeping.pop(0)] if self.keeping else data
        if total == str(len(session.data)):
            self.objects[session.name] = bytes(session.data)
            return web.json_response(self._described(session.name))
        headers = {"Range": f"bytes=0-{len(session.data) - 1}"} if session.data else {}
        return web.Response(status=308, reason="Resume Incomplete", headers=headers)

    async def cancel(self, request: web.Request) -> web.Response:
        self.sessions.pop(request.match_info["session"], None)
        return web.Response(status=499, reason="Client Closed Request")

    async def get(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.objects:
            return failure(404, "notFound")
        if request.query.get("alt") != "media":
            return web.json_response(self._described(name))
        asked = _RANGE.fullmatch(request.headers["Range"])
        assert asked is not None
        first, last = int(asked[1]), int(asked[2])
        data = self.objects[name]
        if first >= len(data):
            return failure(416, "requestedRangeNotSatisfiable")
        return web.Response(status=206, body=data[first : last + 1])

    async def delete(self, request: web.Request) -> web.Response:
        found = self.objects.pop(request.match_info["name"], None)
        return failure(404, "notFound") if found is None else web.Response(status=204)

    async def list(self, request: web.Request) -> web.Response:
        if request.match_info["bucket"] != self.bucket:
            return failure(404, "notFound")
        return web.json_response({"kind": "storage#objects"})

    async def token(self, request: web.Request) -> web.Response:
        form = await request.post()
        assert self.public_key is not None
        try:
            claims = jwt.decode(
                str(form["assertion"]),
                self.public_key,
                algorithms=["RS256"],
                audience=f"{self.url}/token",
                options={"require": ["iss", "scope", "aud", "exp", "iat"]},
            )
        except jwt.PyJWTError:
            return web.json_response({"error": "invalid_grant"}, status=400)
        assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
        assert claims["exp"] - claims["iat"] <= 3_600
        assert claims["scope"] == "https://www.googleapis.com/auth/devstorage.read_write"
        return self._minted()

    async def metadata(self, request: web.Request) -> web.Response:
        if request.headers.get("Metadata-Flavor") != "Google":
            return web.Response(status=403)
        answer = self._minted()
        if self.is_google:
            answer.headers["Metadata-Flavor"] = "Google"
        return answer

    def _minted(self) -> web.Response:
        token = secrets.token_hex(16)
        assert self.tokens is not None
        self.tokens.add(token)
        return web.json_response(
            {"access_token": token, "expires_in": self.expires_in, "token_type": "Bearer"}
        )

    def _described(self, name: str) -> dict[str, str]:
        return {"kind": "storage#object", "name": name, "size": str(len(self.objects[name]))}


def failure(status: int, reason: str) -> web.Response:
    """An error as Google words it."""
    one = {"domain": "global", "reason": reason, "message": "secret/place"}
    body = {"error": {"code": status, "message": "secret/place", "errors": [one]}}
    return web.Response(status=status, text=json.dumps(body), content_type="application/json")


@asynccontextmanager
async def running_standin() -> AsyncIterator[Standin]:
    """Yield a new server on a loopback port."""
    standin = Standin()
    app = web.Application(middlewares=[standin.guarded], client_max_size=1 << 30)
    app.add_routes(
        [
            web.post("/upload/storage/v1/b/{bucket}/o", standin.begin_or_store, name="upload"),
            web.put("/session/{session}", standin.part, name="part"),
            web.delete("/session/{session}", standin.cancel, name="cancel"),
            web.get("/storage/v1/b/{bucket}/o", standin.list, name="list"),
            web.get("/storage/v1/b/{bucket}/o/{name}", standin.get, name="get"),
            web.delete("/storage/v1/b/{bucket}/o/{name}", standin.delete, name="delete"),
            web.post("/token", standin.token, name="token"),
            web.get(_TOKEN_PATH, standin.metadata, name="metadata"),
        ]
    )
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    standin.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield standin
    finally:
        await runner.cleanup()
