"""The mixed requests of `soak.py`: each scene is what one person does in a few requests, and leaves little or
nothing behind. Not a part of its own.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from bench.gateway import RunningGateway, token
from bench.scale.clients import Client

MODEL: Final = "bench"
TENANTS: Final = 1_000
PERSONS: Final = 100
WITH_STORES: Final = 20
"""Tenants that have a vector store with a file in it."""
_TOKENS: Final = 20
_TOO_LATE: Final = (503, 504)
_MAKER: Final = "maker"


@dataclass
class Crowd:
    """Persons of many tenants before one gateway, and what they were answered."""

    session: aiohttp.ClientSession
    gateway: RunningGateway
    stores: dict[str, str]
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    statuses: Counter[int] = field(default_factory=Counter)
    """How often each status was answered; 0 is a stream that its client left."""

    def anyone(self) -> Visitor:
        """Return somebody of any tenant."""
        return self._visitor(f"t{self.chance.randrange(TENANTS)}")

    def somebody_with_a_store(self) -> Visitor:
        """Return somebody whose tenant has a store."""
        return self._visitor(self.chance.choice(list(self.stores)))

    def a_maker(self) -> Visitor:
        """Return who made a tenant's store, and so may add to it."""
        return Visitor(self, self.chance.choice(list(self.stores)), _MAKER)

    def _visitor(self, tenant: str) -> Visitor:
        return Visitor(self, tenant, f"p{self.chance.randrange(PERSONS)}")


class Overloaded(Exception):
    """The gateway said that something did not answer in time, as on a machine that others use wholly."""


class Visitor:
    """One person for a few requests, which the crowd counts."""

    def __init__(self, crowd: Crowd, tenant: str, subject: str) -> None:
        self.tenant = tenant
        self._crowd = crowd
        self._client = Client(crowd.session, crowd.gateway, subject=subject, tenant=tenant)

    @property
    def store(self) -> str:
        """The tenant's vector store."""
        return self._crowd.stores[self.tenant]

    async def call(self, method: str, path: str, body: Any = None, *, expected: int = 200) -> Any:
        """Return the body of the answer. Raises where its status is not the expected one."""
        return self._expected(*await self._client.call(method, path, body), expected)

    async def upload(self) -> str:
        """Return the id of a new file."""
        return str(self._expected(*await self._client.send_file(), 200)["id"])

    def _expected(self, status: int, answer: Any, expected: int) -> Any:
        self._crowd.statuses[status] += 1
        if status in _TOO_LATE:
            raise Overloaded
        if status != expected:
            raise RuntimeError(f"{status} {answer}")
        return answer

    async def leave_amid(self, path: str, body: Any) -> None:
        """Hang up after the first bytes of a stream."""
        async with aiohttp.ClientSession() as alone:
            url = f"{self._crowd.gateway.url}/v1{path}"
            headers = {"Authorization": f"Bearer {token('leaver', self.tenant)}"}
            async with alone.post(url, json=body, headers=headers) as answer:
                await answer.content.readany()
        self._crowd.statuses[0] += 1


def _chat(**more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": _TOKENS, **more}


def _turn(**more: Any) -> dict[str, Any]:
    return {"model": MODEL, "input": "Hello", "max_output_tokens": _TOKENS, **more}


async def _chats(crowd: Crowd) -> None:
    await crowd.anyone().call("POST", "/chat/completions", _chat())


async def _streamed_chats(crowd: Crowd) -> None:
    await crowd.anyone().call("POST", "/chat/completions", _chat(stream=True))


async def _left_streams(crowd: Crowd) -> None:
    who, body = crowd.anyone(), {"max_tokens": 5_000, "stream": True}
    await who.leave_amid("/chat/completions", _chat(**body))
    await who.leave_amid("/responses", _turn(max_output_tokens=5_000, stream=True))


async def _responses(crowd: Crowd) -> None:
    who = crowd.anyone()
    first = await who.call("POST", "/responses", _turn())
    await who.call("POST", "/responses", _turn(previous_response_id=first["id"]))
    await who.call("GET", f"/responses/{first['id']}")


async def _streamed_responses(crowd: Crowd) -> None:
    await crowd.anyone().call("POST", "/responses", _turn(stream=True))


async def _background(crowd: Crowd) -> None:
    who = crowd.anyone()
    made = await who.call("POST", "/responses", _turn(background=True))
    while made["status"] in ("queued", "in_progress"):
        made = await who.call("GET", f"/responses/{made['id']}")
    await who.call("DELETE", f"/responses/{made['id']}")


async def _searches(crowd: Crowd) -> None:
    who = crowd.somebody_with_a_store()
    tools = [{"type": "file_search", "vector_store_ids": [who.store]}]
    await who.call("POST", "/responses", _turn(tools=tools))
    await who.call("POST", f"/vector_stores/{who.store}/search", {"query": "annual leave"})


async def _conversations(crowd: Crowd) -> None:
    who = crowd.anyone()
    made = (await who.call("POST", "/conversations", {}))["id"]
    for _ in range(2):
        await who.call("POST", "/responses", _turn(conversation=made))
    await who.call("GET", f"/conversations/{made}/items")
    await who.call("DELETE", f"/conversations/{made}")


async def _files(crowd: Crowd) -> None:
    who = crowd.a_maker()
    file = await who.upload()
    await who.call("GET", f"/files/{file}")
    await who.call("POST", f"/vector_stores/{who.store}/files", {"file_id": file})
    while (await who.call("GET", f"/vector_stores/{who.store}/files/{file}"))["status"] == "in_progress":
        await asyncio.sleep(0.05)
    await who.call("DELETE", f"/vector_stores/{who.store}/files/{file}")
    await who.call("DELETE", f"/files/{file}")


async def _lists(crowd: Crowd) -> None:
    who = crowd.somebody_with_a_store()
    for path in ("/files", "/responses", "/vector_stores", "/models"):
        await who.call("GET", path)


async def _failures(crowd: Crowd) -> None:
    who = crowd.anyone()
    absent = f"{crowd.chance.getrandbits(64):x}"
    await who.call("POST", "/chat/completions", _chat(model=f"model-{absent}"), expected=404)
    await who.call("POST", "/responses", _turn(**{f"field_{absent}": 1}), expected=400)
    await who.call("GET", f"/files/file-{absent}", expected=404)
    await who.call("GET", f"/nowhere/{absent}", expected=404)


Scene = Callable[[Crowd], Awaitable[None]]
_SCENES: Final[dict[Scene, int]] = {
    _chats: 30,
    _streamed_chats: 20,
    _left_streams: 2,
    _responses: 5,
    _streamed_responses: 8,
    _background: 3,
    _searches: 4,
    _conversations: 2,
    _files: 2,
    _lists: 3,
    _failures: 3,
}
"""How often each is played, among all."""


async def play(crowd: Crowd, requests: int, *, at_once: int) -> None:
    """Play scenes, some at once, until so many requests were answered."""
    scenes, often = list(_SCENES), list(_SCENES.values())

    async def worker() -> None:
        while crowd.statuses.total() < requests:
            (scene,) = crowd.chance.choices(scenes, often)
            with suppress(Overloaded):  # counted by its status; the scene is over
                await scene(crowd)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(worker())


async def opened(session: aiohttp.ClientSession, gateway: RunningGateway) -> Crowd:
    """Return a crowd, of which some tenants have stores."""
    stores = {}
    for number in range(WITH_STORES):
        maker = Client(session, gateway, subject=_MAKER, tenant=f"t{number}")
        shared = {"regate.visibility": "tenant"}
        file = await maker.upload()
        store = await maker.store("handbook", file, metadata=shared)
        await maker.post(f"/vector_stores/{store}/files/{file}", attributes={"regate.visibility": "tenant"})
        stores[f"t{number}"] = store
    return Crowd(session, gateway, stores)


def as_text(statuses: Counter[int]) -> str:
    """Return how often each status was answered."""
    named = {("left" if status == 0 else str(status)): count for status, count in sorted(statuses.items())}
    return json.dumps(named)[1:-1].replace('"', "")
