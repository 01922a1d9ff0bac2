"""What lets requests into Google Cloud Storage: tokens of a service account whose key lies in a file, or of
the machine or pod that this runs on.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import aiohttp
import jwt

from regate_orchestrator.errors import ConfigurationError, StateUnavailable
from regate_orchestrator.values import Clock

METADATA: Final = "http://metadata.google.internal"
_TOKEN_PATH: Final = "/computeMetadata/v1/instance/service-accounts/default/token"  # noqa: S105 — a path
_SCOPE: Final = "https://www.googleapis.com/auth/devstorage.read_write"
_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_FLAVOR: Final = {"Metadata-Flavor": "Google"}
_ASSERTED_SECONDS: Final = 3_600
_EARLY_SECONDS: Final = 240
_MOST_BYTES: Final = 64 * 1024


class TokenSource(Protocol):
    """Where tokens come from."""

    async def fetch(self, session: aiohttp.ClientSession) -> Mapping[str, object]:
        """Return a token as Google tells it (`access_token`, `expires_in`). Raises `aiohttp.ClientError`, or
        `StateUnavailable` where it is refused.
        """
        ...


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """A service account, by its key file."""

    email: str
    key_id: str
    key: str = field(repr=False)
    token_uri: str

    @classmethod
    def read(cls, path: Path) -> ServiceAccount:
        """Return the account of the file. Raises `ConfigurationError`, which tells nothing of the key."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            account = cls(
                *(str(found[name]) for name in ("client_email", "private_key_id", "private_key", "token_uri"))
            )
            account.assertion()
        except OSError as error:
            raise ConfigurationError(
                f"files.service_account_file: {path} cannot be read: {error.strerror}"
            ) from error
        except (ValueError, KeyError, TypeError, jwt.PyJWTError) as error:
            raise ConfigurationError(
                f"files.service_account_file: {path} is not the JSON key of a service account "
                f"({type(error).__name__})"
            ) from None
        return account

    async def fetch(self, session: aiohttp.ClientSession) -> Mapping[str, object]:
        """Return a token for an assertion that the account's key signs (RFC 7523)."""
        form = {"grant_type": _GRANT, "assertion": self.assertion()}
        async with session.post(self.token_uri, data=form) as answer:
            return await _told(answer)

    def assertion(self) -> str:
        """Return what says who we are, signed."""
        now = int(time.time())
        claims = {
            "iss": self.email,
            "scope": _SCOPE,
            "aud": self.token_uri,
            "iat": now,
            "exp": now + _ASSERTED_SECONDS,
        }
        return jwt.encode(claims, self.key, algorithm="RS256", headers={"kid": self.key_id})


@dataclass(frozen=True, slots=True)
class Machine:
    """The service account of the machine or pod, told by Google's metadata server."""

    url: str = METADATA

    async def fetch(self, session: aiohttp.ClientSession) -> Mapping[str, object]:
        """Return a token; what does not say that it is Google's is not believed."""
        async with session.get(self.url + _TOKEN_PATH, headers=_FLAVOR) as answer:
            if answer.headers.get("Metadata-Flavor") != "Google":
                raise StateUnavailable("files: what answers as the metadata server is not Google's")
            return await _told(answer)


async def _told(answer: aiohttp.ClientResponse) -> Mapping[str, object]:
    body = await answer.content.read(_MOST_BYTES)
    try:
        told = json.loads(body)
    except ValueError:
        told = None
    if answer.status != 200 or not isinstance(told, dict):
        reason = told.get("error") if isinstance(told, dict) else None
        raise StateUnavailable(f"files: no token, HTTP {answer.status} ({reason})")
    return told


class Tokens:
    """The token of a source, fetched again before it ends; one fetch serves all that wait."""

    def __init__(self, source: TokenSource | None, *, clock: Clock = time.monotonic) -> None:
        self._source = source
        self._clock = clock
        self._token = ""
        self._until = 0.0
        self._fetching = asyncio.Lock()

    async def headers(self, session: aiohttp.ClientSession) -> dict[str, str]:
        """Return what a request must carry: nothing, without a source."""
        if self._source is None:
            return {}
        async with self._fetching:
            if not self._token or self._clock() >= self._until:
                began = self._clock()
                told = await self._source.fetch(session)
                token, seconds = told.get("access_token"), told.get("expires_in")
                if not isinstance(token, str) or not isinstance(seconds, int | float):
                    raise StateUnavailable("files: no token in the answer")
                self._token, self._until = token, began + max(0.0, seconds - _EARLY_SECONDS)
        return {"Authorization": f"Bearer {self._token}"}

    def forget(self) -> None:
        """Fetch another one next time: this one was refused."""
        self._token = ""
