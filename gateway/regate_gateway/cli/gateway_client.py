"""A client of a running gateway, for commands that manage what it keeps. It knows the API's envelope and
pages, and none of its objects.

What it needs is imported when it asks, so that a command's help costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import quote

from regate_gateway.config.secret import Secret

_DEADLINE_SECONDS: Final = 60.0
_PAGE: Final = 100


class Refused(Exception):
    """The gateway refused the request, or did not answer as one. The message is for whoever runs the
    command.
    """


@dataclass(frozen=True, slots=True)
class GatewayClient:
    """Asks the gateway at this base URL (up to and including `/v1`) on behalf of whoever the token names."""

    url: str
    token: Secret

    def call(
        self,
        method: str,
        *path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Return the answer to one request below the base URL. Raises `Refused`."""
        import aiohttp
        import orjson

        place = "/".join([self.url.rstrip("/"), *(quote(part, safe="") for part in path)])
        try:
            content = None if body is None else orjson.dumps(body)
        except TypeError as error:
            raise Refused(f"what is to be sent cannot be written as JSON: {error}") from error
        try:
            return asyncio.run(self._exchange(method, place, content, query or {}))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Refused(f"no gateway answers at {self.url} ({type(error).__name__})") from error

    def pages(self, *path: str, cursor: str) -> Iterator[dict[str, Any]]:
        """Yield all members of a list; `cursor` is the member of an object by which the list goes on."""
        query = {"limit": str(_PAGE), "order": "asc"}
        more = True
        while more:
            page = self.call("GET", *path, query=query)
            yield from page["data"]
            more = page["has_more"]
            if more:
                query["after"] = page["data"][-1][cursor]

    async def _exchange(
        self, method: str, place: str, content: bytes | None, query: Mapping[str, str]
    ) -> dict[str, Any]:
        import aiohttp

        headers = {"Authorization": f"Bearer {self.token.reveal()}", "Content-Type": "application/json"}
        timeout = aiohttp.ClientTimeout(total=_DEADLINE_SECONDS)
        # A redirect is not followed: the token is for this gateway alone.
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(
                method, place, params=query, headers=headers, data=content, allow_redirects=False
            ) as answer,
        ):
            return self._read(answer.status, await answer.read())

    def _read(self, status: int, content: bytes) -> dict[str, Any]:
        import orjson

        try:
            found = orjson.loads(content)
        except orjson.JSONDecodeError:
            found = None
        if status == 200 and isinstance(found, dict):
            return found
        error = found.get("error") if isinstance(found, dict) else None
        if isinstance(error, dict) and isinstance(error.get("message"), str):
            raise Refused(cast("str", error["message"]))
        raise Refused(f"{self.url} does not answer as a gateway does (status {status})")
