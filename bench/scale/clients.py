"""People before a gateway, and many calls of theirs at once. Not a part of its own."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp

from bench.gateway import RunningGateway, running_gateway, token

_AT_ONCE: Final = 8
_TEXT: Final = "Staff have 28 days of annual leave. Leave is asked for two weeks before it begins.\n" * 8


class Client:
    """One person before a gateway."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        gateway: RunningGateway,
        *,
        subject: str = "user",
        tenant: str = "acme",
        roles: tuple[str, ...] = (),
    ) -> None:
        self._session = session
        self._url = f"{gateway.url}/v1"
        self._headers = {"Authorization": f"Bearer {token(subject, tenant, roles=roles)}"}

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Return the status and the body of what was answered; of a stream, its text."""
        async with self._session.request(
            method, f"{self._url}{path}", json=body, headers=self._headers
        ) as answer:
            if answer.content_type == "application/json":
                return answer.status, await answer.json()
            return answer.status, await answer.text()

    async def post(self, path: str, **body: Any) -> tuple[int, Any]:
        """Return the status and the body of what was answered."""
        return await self.call("POST", path, body)

    async def get(self, path: str) -> Any:
        """Return what is there."""
        return (await self.call("GET", path))[1]

    async def upload(self) -> str:
        """Return the id of a new file."""
        status, made = await self.send_file()
        if status != 200:
            raise RuntimeError(made)
        return str(made["id"])

    async def send_file(self) -> tuple[int, Any]:
        """Upload a file; return the status and the body of what was answered."""
        form = aiohttp.FormData({"purpose": "assistants"})
        form.add_field("file", _TEXT.encode(), filename="leave.md")
        async with self._session.post(f"{self._url}/files", data=form, headers=self._headers) as answer:
            return answer.status, await answer.json()

    async def store(self, name: str, file: str, **more: Any) -> str:
        """Return the id of a new vector store, once the file can be found in it."""
        _, made = await self.post("/vector_stores", name=name, file_ids=[file], **more)
        while (await self.get(f"/vector_stores/{made['id']}"))["file_counts"]["completed"] < 1:
            await asyncio.sleep(0.02)
        return str(made["id"])


@asynccontextmanager
async def one_client(
    backend: str | None = None, *, open_files: int | None = None
) -> AsyncIterator[tuple[Client, RunningGateway]]:
    """Enter with a person before a gateway of their own."""
    async with running_gateway(backend, open_files=open_files) as gateway, aiohttp.ClientSession() as session:
        yield Client(session, gateway), gateway


async def each(work: Callable[[int], Awaitable[None]], count: int, *, doing: str) -> float:
    """Do the work for each number, some at once; return the seconds it took."""
    began, left = time.perf_counter(), iter(range(count))

    async def worker() -> None:
        for number in left:
            await work(number)
            if sys.stderr.isatty():
                print(f"\r  {doing}: {number + 1} of {count} ", end="", file=sys.stderr, flush=True)

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(worker())
    return time.perf_counter() - began
