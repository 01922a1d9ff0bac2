"""Every exchange of the load, looked at as it passes: how it was answered, how long it took, and whether it
holds what is another tenant's.

A canary is a text that one tenant's documents and questions hold, and that nobody else may ever see.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

SURFACE: ContextVar[str] = ContextVar("surface", default="-")
"""What the present request is for."""

BUDGET_SECONDS: Final = 10.0
_CANARY: Final = re.compile(r"canary-([a-z]+)-[0-9a-f]{16}")
_FAILED_STREAM: Final = (b'"type":"response.failed"', b'"type":"error"', b'"type":"response.incomplete"')
_TRACE: Final = b"Traceback (most recent call last)"


def canary_of(tenant: str) -> str:
    """Return a new canary of the tenant."""
    return f"canary-{tenant}-{secrets.token_hex(8)}"


def tenants_in(text: str) -> set[str]:
    """Return whose canaries the text holds."""
    return set(_CANARY.findall(text))


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and what came of it. `seconds` is the time to the first event where it was a stream."""

    surface: str
    gateway: str
    begun: float
    seconds: float
    outcome: str

    @property
    def is_failed(self) -> bool:
        """Return whether it was anything but a success."""
        return self.outcome != "ok"


@dataclass
class Watch:
    """What was seen since the beginning."""

    exchanges: list[Exchange] = field(default_factory=list)
    probes: int = 0
    leaks: list[str] = field(default_factory=list)
    malformed: list[str] = field(default_factory=list)
    places: Counter[str] = field(default_factory=Counter)
    _read: dict[Path, int] = field(default_factory=dict)

    def reply(self, tenant: str, surface: str, body: bytes) -> None:
        """Look at what a tenant was answered."""
        self._count("replies")
        for other in tenants_in(body.decode(errors="replace")) - {tenant}:
            self.leaks.append(f"{surface}: {tenant} was shown what is {other}'s")
        if _TRACE in body:
            self.malformed.append(f"{surface}: a trace")

    def prompt(self, text: str) -> None:
        """Look at what the model was sent."""
        self._count("prompts")
        if len(found := tenants_in(text)) > 1:
            self.leaks.append(f"prompt: of {' and '.join(sorted(found))}")

    def error(self, surface: str, status: int, body: bytes) -> None:
        """Look at whether an error is told as one."""
        try:
            said = json.loads(body)["error"]
            is_told = bool(said["message"]) and "code" in said and "type" in said
        except (ValueError, KeyError, TypeError):
            is_told = False
        if not is_told or status == httpx.codes.INTERNAL_SERVER_ERROR:
            self.malformed.append(f"{surface}: {status} {body[:200].decode(errors='replace')}")

    def files(self, *places: Path) -> None:
        """Look at the new lines of logs and audit logs, in which no text of a tenant may be."""
        found = [path for place in places for path in (place, *sorted(place.rglob("*")))]
        for path in filter(Path.is_file, found):
            with path.open("rb") as lines:
                lines.seek(self._read.get(path, 0))
                data = lines.read()
                self._read[path] = lines.tell()
            kind = "audit lines" if "audit" in path.parts else "log lines"
            self._count(kind, data.count(b"\n"))
            for tenant in tenants_in(data.decode(errors="replace")):
                self.leaks.append(f"{path.name}: a text of {tenant}")

    def _count(self, place: str, more: int = 1) -> None:
        self.places[place] += more
        self.probes += more


class Watched(httpx.AsyncBaseTransport):
    """The way of one client to one gateway."""

    def __init__(self, watch: Watch, *, tenant: str, gateway: str) -> None:
        self._inner = httpx.AsyncHTTPTransport()
        self._watch = watch
        self._tenant = tenant
        self._gateway = gateway

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        begun = time.monotonic()
        try:
            answer = await self._inner.handle_async_request(request)
        except Exception as error:
            self._note(begun, time.monotonic() - begun, type(error).__name__)
            raise
        assert isinstance(answer.stream, httpx.AsyncByteStream)
        return httpx.Response(
            answer.status_code,
            headers=answer.headers,
            stream=_Body(answer.stream, self, begun, answer),
            extensions=answer.extensions,
        )

    async def aclose(self) -> None:
        await self._inner.aclose()

    def ended(self, begun: float, first_s: float, answer: httpx.Response, body: bytes, error: str) -> None:
        """Note an exchange whose answer has been read, or could not be read further."""
        surface, is_stream = SURFACE.get(), "event-stream" in answer.headers.get("content-type", "")
        self._watch.reply(self._tenant, surface, body)
        outcome = error or ("ok" if answer.status_code < httpx.codes.BAD_REQUEST else _told(answer, body))
        if answer.status_code >= httpx.codes.BAD_REQUEST and not error:
            self._watch.error(surface, answer.status_code, body)
        if surface == "peek":
            if outcome == "ok":
                self._watch.leaks.append(f"peek: {self._tenant} was answered {answer.status_code}")
            outcome = "ok" if answer.status_code == httpx.codes.NOT_FOUND and not error else outcome
        if outcome == "ok" and is_stream and any(word in body.replace(b" ", b"") for word in _FAILED_STREAM):
            outcome = "failed stream"
        self._note(begun, first_s if is_stream else time.monotonic() - begun, outcome)

    def _note(self, begun: float, seconds: float, outcome: str) -> None:
        self._watch.exchanges.append(Exchange(SURFACE.get(), self._gateway, begun, seconds, outcome))


class _Body(httpx.AsyncByteStream):
    def __init__(
        self, inner: httpx.AsyncByteStream, way: Watched, begun: float, answer: httpx.Response
    ) -> None:
        self._inner = inner
        self._way = way
        self._begun = begun
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        parts: list[bytes] = []
        first_s, error = 0.0, ""
        try:
            async for part in self._inner:
                first_s = first_s or time.monotonic() - self._begun
                parts.append(part)
                yield part
        except Exception as broken:
            error = type(broken).__name__
            raise
        finally:
            self._way.ended(self._begun, first_s, self._answer, b"".join(parts), error)

    async def aclose(self) -> None:
        await self._inner.aclose()


def _told(answer: httpx.Response, body: bytes) -> str:
    """Return the status with the code that was told."""
    try:
        return f"{answer.status_code} {json.loads(body)['error']['code']}"
    except (ValueError, KeyError, TypeError):
        return str(answer.status_code)


def upper_bound(probes: int) -> float:
    """Return the upper 95 % bound of a share of which none was found: the rule of three."""
    return 3 / probes if probes else 1.0


def said(found: Any) -> str:
    """Return something in one line, for a report."""
    return " ".join(str(found).split())[:300]
