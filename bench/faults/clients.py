"""The load: people of four tenants, who do everything that leaves something behind and remember what was acknowledged.

What they remember is the ledger of the crash tests. A creation that fails is sent again with its `Idempotency-Key`,
as a diligent client does; so whatever is there twice was made twice.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from tests.e2e.crashing import Caller, Ledger, broken_promises

from bench.faults.watching import SURFACE, Watch, Watched, canary_of
from bench.faults.world import ENGINES, GatewayProcess
from bench.gateway import token

_TRIES: Final = 3
_PAUSE_SECONDS: Final = 0.3
_AGAIN: Final = {409, 429, 500, 502, 503, 504}
_INGESTED_SECONDS: Final = 20.0
_CLIENT_SECONDS: Final = 30.0
UNFINISHED: Final = ("queued", "in_progress")


class Failed(Exception):
    """A request was not done, and its client was told so."""


class Diligent(Caller):
    """A caller that sends a creation again until it is done, three times at most."""

    retried = 0

    async def _post(self, path: str, **kwargs: Any) -> dict[str, Any]:
        key = {"Idempotency-Key": canary_of("key").replace("canary-", "")}
        told = ""
        for attempt in range(_TRIES):
            if attempt:
                self.retried += 1
                await asyncio.sleep(_PAUSE_SECONDS)
            try:
                answer = await self.http.post(path, headers=key, **kwargs)
            except httpx.TransportError as error:
                told = type(error).__name__
                continue
            if answer.status_code == httpx.codes.OK:
                return dict(answer.json())
            told = f"{answer.status_code} {answer.text[:200]}"
            if answer.status_code not in _AGAIN:
                break
        raise Failed(f"{path}: {told}")


@dataclass
class Person:
    """One person at one gateway."""

    gateway: GatewayProcess
    tenant: str
    subject: str
    watch: Watch
    number: int = 0
    trial: int = 0
    others: list[Person] = field(default_factory=list)

    def __post_init__(self) -> None:
        way = Watched(self.watch, tenant=self.tenant, gateway=self.gateway.name)
        headers = {"Authorization": f"Bearer {token(self.subject, self.tenant)}"}
        http = httpx.AsyncClient(
            base_url=self.gateway.url, headers=headers, timeout=_CLIENT_SECONDS, transport=way
        )
        self.caller = Diligent(http, Ledger())
        self.canary = canary_of(self.tenant)
        self.engine = ENGINES[self.tenant]
        self.store = self.latest = ""
        self._verified: set[str] = set()
        self._disposable: list[str] = []

    # ------------------------------------------------------------ what people do

    async def prepare(self) -> None:
        """Make a store with a document in it."""
        self.store = await self.caller.store()
        await self.ingest()

    async def respond(self) -> None:
        """Ask for a stored response."""
        self.latest = await self.caller.ask(self._question(), metadata=self._mark())
        self._disposable.append(f"/v1/responses/{self.latest}")

    async def stream(self) -> None:
        """Ask for a stored response as a stream."""
        identifier = await self.caller.stream(self._question(), metadata=self._mark())
        if f"/v1/responses/{identifier}" not in self.caller.ledger.made:
            raise Failed("a stream that did not complete")

    async def turn(self) -> None:
        """Take a turn in a new conversation."""
        conversation = await self.caller.conversation()
        await self.caller.ask(self._question(), conversation=conversation, metadata=self._mark())

    async def background(self) -> None:
        """Ask for a background response and wait for its end."""
        identifier = await self.caller.ask(self._question(), background=True, metadata=self._mark())
        self.caller.ledger.made[f"/v1/responses/{identifier}"]["status"] += UNFINISHED
        async with asyncio.timeout(_INGESTED_SECONDS):
            while (found := await self._get(f"/v1/responses/{identifier}"))["status"] in UNFINISHED:
                await asyncio.sleep(0.1)
        if found["status"] != "completed":
            raise Failed(f"a background response is {found['status']}")

    async def search(self) -> None:
        """Ask for a response that searches."""
        tools = [{"type": "file_search", "vector_store_ids": [self.store]}]
        await self.caller.ask(
            self._question(), tools=tools, include=["file_search_call.results"], metadata=self._mark()
        )

    async def find(self) -> None:
        """Search; what is there must be found."""
        if not await self.caller.search(self.store, "What does the document say?"):
            self.watch.malformed.append("find: nothing is found where something is")
            raise Failed("nothing found")

    async def ingest(self) -> None:
        """Upload a document and have it found."""
        name = f"{self.trial}-{self._next()}.txt"
        file = await self.caller.upload(name, f"The document {name} holds {self.canary}. " * 5)
        await self.caller.attach(self.store, file)
        path = f"/v1/vector_stores/{self.store}/files/{file}"
        self.caller.ledger.note("made", path, status=["completed", "failed", "in_progress"])
        async with asyncio.timeout(_INGESTED_SECONDS):
            while (found := await self._get(path))["status"] == "in_progress":
                await asyncio.sleep(0.1)
        if found["status"] != "completed":
            raise Failed(f"a file is {found['status']}")

    async def remove(self) -> None:
        """Delete a response that was made before, or a file that is in no store: no answer rests on either."""
        if not self._disposable:
            name = f"{self.trial}-{self._next()}.txt"
            self._disposable.append(f"/v1/files/{await self.caller.upload(name, self.canary)}")
        await self._delete(self._disposable.pop())

    async def _delete(self, path: str) -> None:
        self.caller.ledger.note("removing", path)
        answer = await self.caller.http.delete(path)
        if answer.status_code != httpx.codes.OK:
            raise Failed(f"{path}: {answer.status_code}")
        self.caller.ledger.note("removed", path)

    async def lists(self) -> None:
        """List what is there."""
        for path in ("/v1/responses", "/v1/files", f"/v1/vector_stores/{self.store}/files"):
            await self._get(path)

    async def chat(self) -> None:
        """Ask for a chat completion."""
        body = {"model": "small", "messages": [{"role": "user", "content": self._question()}], "stream": True}
        answer = await self.caller.http.post("/v1/chat/completions", json=body)
        if answer.status_code != httpx.codes.OK:
            raise Failed(f"chat: {answer.status_code}")

    async def peek(self) -> None:
        """Ask for what is another tenant's."""
        other = random.choice(self.others)
        await self.caller.http.get(f"/v1/responses/{other.latest or 'resp_none'}")
        await self.caller.http.post(f"/v1/vector_stores/{other.store}/search", json={"query": "document"})

    async def do(self, surface: str) -> None:
        """Do one thing. Raises `Failed`, or what went wrong, where it was not done."""
        SURFACE.set(surface)
        doing: Callable[[], Awaitable[None]] = getattr(self, surface)
        await doing()

    # ------------------------------------------------------------ what must be so afterwards

    async def lost(self, *, final: bool = False) -> list[str]:
        """Return what was acknowledged since the last time, or ever, and is not as it was acknowledged."""
        SURFACE.set("verify")
        ledger = self.caller.ledger
        known = set() if final else self._verified
        new = {path: dict(holds) for path, holds in ledger.made.items() if path not in known}
        if final:
            for holds in new.values():
                if "status" in holds:
                    holds["status"] = [one for one in holds["status"] if one not in UNFINISHED]
        self._verified = set(ledger.made)
        asked = Ledger(None, new, ledger.removing, ledger.removed)
        for attempt in range(_TRIES):
            lost = await broken_promises(self.caller.http, asked)
            if not any(_is_no_answer(one) for one in lost):
                break
            if attempt < _TRIES - 1:  # it was not said to be gone
                await asyncio.sleep(_PAUSE_SECONDS)
        return lost

    async def doubled(self) -> list[str]:
        """Return what of this trial is there more than once."""
        SURFACE.set("verify")
        made = [
            str(row["metadata"]["number"])
            for row in await self._newest(
                "/v1/responses", lambda row: row.get("metadata", {}).get("trial", "")
            )
            if row["status"] == "completed"
        ]
        files = [
            str(row["filename"])
            for row in await self._newest("/v1/files", lambda row: row["filename"].partition("-")[0])
        ]
        return [name for name, count in (Counter(made) + Counter(files)).items() if count > 1]

    async def _newest(self, path: str, trial: Callable[[dict[str, Any]], str]) -> list[dict[str, Any]]:
        """Return the rows of this trial, which are the newest."""
        rows: list[dict[str, Any]] = []
        after: dict[str, str] = {}
        while True:
            page = await self._listed(path, limit="100", order="desc", **after)
            mine = [row for row in page["data"] if trial(row) == str(self.trial)]
            rows += mine
            if not page["has_more"] or not mine:
                return rows
            after = {"after": page["last_id"]}

    async def _listed(self, path: str, **query: str) -> dict[str, Any]:
        """Return a page; one that is refused for now is asked for again."""
        for _ in range(_TRIES):
            try:
                return await self._get(path, **query)
            except (Failed, httpx.TransportError):
                await asyncio.sleep(_PAUSE_SECONDS)
        return await self._get(path, **query)

    async def _get(self, path: str, **query: str) -> dict[str, Any]:
        answer = await self.caller.http.get(path, params=query)
        if answer.status_code != httpx.codes.OK:
            raise Failed(f"{path}: {answer.status_code}")
        return dict(answer.json())

    def _next(self) -> str:
        self.number += 1
        return f"{self.subject}-{self.number}"

    def _question(self) -> str:
        return f"What is {self._next()} of {self.canary}?"

    def _mark(self) -> dict[str, str]:
        return {"trial": str(self.trial), "number": f"{self.subject}-{self.number}"}


def _is_no_answer(problem: str) -> bool:
    """Return whether what was acknowledged could not be looked at, which is not to say that it is gone."""
    return " and is 5" in problem or "_unavailable" in problem


def is_stuck(problem: str) -> bool:
    """Return whether something is there, and something that never ended keeps it."""
    return "conversation_locked" in problem


SURFACES: Final = (
    "respond",
    "stream",
    "turn",
    "background",
    "search",
    "find",
    "ingest",
    "remove",
    "lists",
    "chat",
)
"""What must work again after a repair, at each gateway and on each vector engine."""
