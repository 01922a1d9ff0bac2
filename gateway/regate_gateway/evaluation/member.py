"""One tenant's member, who asks the gateway over HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import orjson

from regate_gateway.config.secret import Secret

DEFAULT_MODE: Final = "default"
"""The mode that the deployment chooses."""
DEADLINE_SECONDS: Final = 60.0
_PATIENCE: Final = 20
_FILE_LIFE_SECONDS: Final = 3_600
_PAGE: Final = 100


class Refused(Exception):
    """The gateway refused a request, or did not answer as one. The message is for whoever runs this."""

    def __init__(self, message: str, *, status: int = 0, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that was found."""

    file_id: str
    filename: str
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a search found, and how long it took, without what a quota made it wait."""

    hits: tuple[Hit, ...]
    milliseconds: float

    @property
    def names(self) -> list[str]:
        """Return the names of the files, best first."""
        return [hit.filename for hit in self.hits]


@dataclass(frozen=True, slots=True)
class Member:
    """Asks the gateway at this base URL on behalf of whoever the token names."""

    session: aiohttp.ClientSession
    url: str
    tenant: str
    token: Secret

    async def call(
        self, method: str, *path: str, body: Any = None, query: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Return the answer to one request. Where a quota is used up, it waits as long as it is told. Raises
        `Refused`.
        """
        content = None if body is None else orjson.dumps(body)
        return (await self._exchange(method, path, content, query))[0]

    async def search(
        self,
        store: str,
        query: str,
        *,
        mode: str,
        limit: int = 10,
        filters: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Return what a search finds. Raises `Refused`."""
        body: dict[str, Any] = {"query": query, "max_num_results": limit}
        if mode != DEFAULT_MODE:
            body["search_mode"] = mode
        if filters is not None:
            body["filters"] = filters
        path = ("vector_stores", store, "search")
        found, milliseconds = await self._exchange("POST", path, orjson.dumps(body), None)
        hits = tuple(
            Hit(hit["file_id"], hit["filename"], " ".join(part["text"] for part in hit["content"]))
            for hit in found["data"]
        )
        return Answer(hits, milliseconds)

    async def upload(self, name: str, content: str) -> str:
        """Return the id of an uploaded file, which goes by itself after an hour."""

        def form() -> aiohttp.FormData:
            fields = aiohttp.FormData()
            fields.add_field("purpose", "assistants")
            fields.add_field("expires_after[anchor]", "created_at")
            fields.add_field("expires_after[seconds]", str(_FILE_LIFE_SECONDS))
            fields.add_field("file", content.encode(), filename=name)
            return fields

        return str((await self._exchange("POST", ("files",), form, None))[0]["id"])

    async def newest(self, *path: str, since: float = 0) -> AsyncIterator[dict[str, Any]]:
        """Yield the members of a list that were made since then, newest first."""
        query = {"limit": str(_PAGE), "order": "desc"}
        while True:
            page = await self.call("GET", *path, query=query)
            for one in page["data"]:
                if one["created_at"] < since:
                    return
                yield one
            if not page["has_more"]:
                return
            query["after"] = page["data"][-1]["id"]

    async def _exchange(
        self, method: str, path: tuple[str, ...], content: Any, query: Mapping[str, str] | None
    ) -> tuple[dict[str, Any], float]:
        place = "/".join([self.url, *(quote(part, safe="") for part in path)])
        headers = {"Authorization": f"Bearer {self.token.reveal()}"}
        if isinstance(content, bytes):
            headers["Content-Type"] = "application/json"
        for _ in range(_PATIENCE):
            data = content() if callable(content) else content
            began = time.perf_counter()
            try:
                async with self.session.request(
                    method, place, params=query, headers=headers, data=data, allow_redirects=False
                ) as answer:
                    read = await answer.read()
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise Refused(f"no gateway answers at {self.url} ({type(error).__name__})") from error
            took = (time.perf_counter() - began) * 1000
            if answer.status != 429:
                return self._read(answer.status, read), took
            await asyncio.sleep(_seconds(answer.headers.get("retry-after")))
        raise Refused(f"the quota of {self.tenant} is used up", status=429)

    def _read(self, status: int, content: bytes) -> dict[str, Any]:
        try:
            found = orjson.loads(content)
        except orjson.JSONDecodeError:
            found = None
        if status == 200 and isinstance(found, dict):
            return found
        error = found.get("error") if isinstance(found, dict) else None
        if isinstance(error, dict) and isinstance(error.get("message"), str):
            raise Refused(f"{self.tenant}: {error['message']}", status=status, code=error.get("code"))
        raise Refused(f"{self.url} does not answer as a gateway does (status {status})", status=status)


def _seconds(said: str | None) -> int:
    """Return how long to wait before the next try."""
    return min(int(said), int(DEADLINE_SECONDS)) if said is not None and said.isdecimal() else 1
