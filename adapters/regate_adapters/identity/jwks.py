"""Where verification keys come from: a JWKS file, read again when it changes, or a JWKS URL, fetched with
restraint; the URL is named, or found by discovery.

Both obey one rule: a failed read never evicts good keys. Not what a key is (`keys.py`), not the verification
(`jwt.py`).
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import aiohttp
import orjson

from regate_adapters.identity.keys import KeySet, VerificationKey, check_algorithms, is_hmac, read_jwks
from regate_orchestrator.errors import ConfigurationError
from regate_orchestrator.values import Clock

_log = logging.getLogger("regate.identity")

_MAX_BYTES: Final = 1024 * 1024
_MAX_UNKNOWN: Final = 1_000
_WELL_KNOWN: Final = "/.well-known/openid-configuration"


class JwksFile:
    """Keys in a local file. Reading raises `ConfigurationError` at start; later a bad file is logged
    and the good keys stay.
    """

    def __init__(self, path: Path, *, algorithms: Sequence[str]) -> None:
        _require_public_keys(algorithms)
        self._path = path
        self._algorithms = tuple(algorithms)
        try:
            self._seen = self._mark()
            self._keys = self._read()
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"jwks_file: {path} cannot be used: {error}") from error

    async def key(self, kid: str | None, *, algorithm: str) -> VerificationKey | None:
        """Return the one matching key of the file as it is now."""
        self._reload_when_changed()
        return self._keys.find(kid, algorithm=algorithm)

    @property
    def ready(self) -> bool:
        """A file that was accepted at start always leaves keys at hand."""
        return True

    def _reload_when_changed(self) -> None:
        try:
            mark = self._mark()
            if mark == self._seen:
                return
            self._seen = mark
            self._keys = self._read()
        except (OSError, ValueError) as error:
            _log.warning("the JWKS file cannot be read again, its last good keys stay: %s", error)

    def _mark(self) -> tuple[int, int, int]:
        about = self._path.stat()
        return about.st_mtime_ns, about.st_size, about.st_ino

    def _read(self) -> KeySet:
        with self._path.open("rb") as file:
            document = file.read(_MAX_BYTES + 1)
        if len(document) > _MAX_BYTES:
            raise ValueError(f"larger than {_MAX_BYTES} bytes")
        return read_jwks(document, algorithms=self._algorithms)


@dataclass(frozen=True, slots=True)
class JwksTimes:
    """How often a JWKS URL is asked, in seconds.

    Keys older than `refresh_s` are fetched again while they go on being used; keys that no fetch confirmed
    for `keep_s` are no longer trusted. An unknown key id leads to a fetch at most once per `cooldown_s`, and
    to none for `negative_s` once the issuer had no such key.
    """

    deadline_s: float = 5.0
    refresh_s: float = 300.0
    keep_s: float = 86_400.0
    cooldown_s: float = 30.0
    negative_s: float = 60.0


class JwksUrl:
    """Keys behind a URL. Must be entered (`async with`): its fetches run in a task group of its own, so no
    caller's cancellation ends one.

    The URL must be https, or http on a loopback address. No redirect is followed, no proxy or cookie used, no
    compressed answer accepted.
    """

    def __init__(
        self,
        url: str,
        *,
        algorithms: Sequence[str],
        times: JwksTimes | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        _require_public_keys(algorithms)
        check_jwks_url(url)
        self._url = url
        self._algorithms = tuple(algorithms)
        self._times = times or JwksTimes()
        self._clock = clock
        self._keys = KeySet(())
        self.problem: str | None = None
        """Why the latest fetch gave no keys; None when it did, or there was none."""
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._refreshing: asyncio.Task[None] | None = None
        self._group: asyncio.TaskGroup | None = None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._times.deadline_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        )
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        try:
            await self._refreshed()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        group, session = self._group, self._session
        self._group = self._session = None
        if self._refreshing is not None:
            self._refreshing.cancel()
        try:
            if group is not None:
                await group.__aexit__(None, None, None)
        finally:
            if session is not None:
                await session.close()

    @property
    def ready(self) -> bool:
        """Whether keys were fetched, and not so long ago that they are no longer trusted."""
        return len(self._keys) > 0 and self._age() <= self._times.keep_s

    @property
    def count(self) -> int:
        """Return how many usable keys there are."""
        return len(self._keys)

    async def key(self, kid: str | None, *, algorithm: str) -> VerificationKey | None:
        """Return the one matching key, after at most one fetch, which all concurrent callers share."""
        found = self._known(kid, algorithm)
        if found is not None:
            if self._age() > self._times.refresh_s and self._may_fetch():
                self._start_refresh()
            return found
        if kid is not None and self._is_known_missing(kid):
            return None
        if self._refreshing is None and not self._may_fetch():
            return None
        await self._refreshed()
        found = self._known(kid, algorithm)
        if found is None and kid is not None:
            self._remember_missing(kid)
        return found

    def _known(self, kid: str | None, algorithm: str) -> VerificationKey | None:
        return self._keys.find(kid, algorithm=algorithm) if self.ready else None

    def _age(self) -> float:
        return self._clock() - self._fetched_at

    def _may_fetch(self) -> bool:
        return self._clock() - self._tried_at >= self._times.cooldown_s

    def _is_known_missing(self, kid: str) -> bool:
        until = self._unknown.get(kid)
        return until is not None and self._clock() < until

    def _remember_missing(self, kid: str) -> None:
        """Only an answer of the issuer says that a key does not exist; a failed fetch says nothing."""
        if self._fetched_at != self._tried_at:
            return
        self._unknown[kid] = self._clock() + self._times.negative_s
        self._unknown.move_to_end(kid)
        while len(self._unknown) > _MAX_UNKNOWN:
            self._unknown.popitem(last=False)

    async def _refreshed(self) -> None:
        refreshing = self._refreshing or self._start_refresh()
        if refreshing is not None:
            await asyncio.wait([refreshing])

    def _start_refresh(self) -> asyncio.Task[None] | None:
        if self._group is not None and self._refreshing is None:
            self._tried_at = self._clock()
            self._refreshing = self._group.create_task(self._refresh())
        return self._refreshing

    async def _refresh(self) -> None:
        tried_at = self._tried_at
        try:
            async with asyncio.timeout(self._times.deadline_s):
                self._keys = read_jwks(await self._document(), algorithms=self._algorithms)
            self._fetched_at = tried_at
            self.problem = None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            self.problem = str(error) or type(error).__name__
            _log.warning("the JWKS URL gave no usable keys, those at hand stay: %s", type(error).__name__)
        # An error that leaves this task would end the gateway; it is logged with its trace
        except Exception:  # noqa: BLE001
            _log.exception("fetching the JWKS failed in an unforeseen way, the keys at hand stay")
        finally:
            self._refreshing = None

    async def _document(self) -> bytes:
        """Return the JWKS as it is now. Raises `ValueError`, and what aiohttp raises."""
        return await self._fetch(self._url)

    async def _fetch(self, url: str) -> bytes:
        if self._session is None:
            raise ValueError("closed")
        async with self._session.get(url, allow_redirects=False) as answer:
            if answer.status != 200 or "Content-Encoding" in answer.headers:
                raise ValueError("the answer is not a plain 200")
            document = bytearray()
            async for piece in answer.content.iter_chunked(65_536):
                document += piece
                if len(document) > _MAX_BYTES:
                    raise ValueError(f"the answer is larger than {_MAX_BYTES} bytes")
            return bytes(document)


class DiscoveredJwks(JwksUrl):
    """Keys of an issuer that publishes where they are (OpenID Connect Discovery 1.0, section 4). The issuer
    is asked with each fetch of its keys, so that it may move them; nothing else in its document is read.

    Raises `ConfigurationError` unless the issuer is a URL, by the rules of a JWKS URL and without a query.
    """

    def __init__(
        self,
        issuer: str,
        *,
        algorithms: Sequence[str],
        times: JwksTimes | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        check_jwks_url(issuer, setting="issuer")
        if "?" in issuer:
            raise ConfigurationError("issuer must have no query: its configuration is found below it")
        super().__init__(issuer.rstrip("/") + _WELL_KNOWN, algorithms=algorithms, times=times, clock=clock)
        self._issuer = issuer

    async def _document(self) -> bytes:
        found = read_configuration(await self._fetch(self._url), issuer=self._issuer)
        return await self._fetch(found)


def read_configuration(document: bytes, *, issuer: str) -> str:
    """Return the JWKS URL in an issuer's configuration. Raises `ValueError` for the configuration of another
    issuer: the two must be exactly equal (OpenID Connect Discovery 1.0, section 4.3).
    """
    try:
        parsed = orjson.loads(document)
    except orjson.JSONDecodeError as error:
        raise ValueError("the issuer's configuration is not JSON") from error
    if not isinstance(parsed, dict) or parsed.get("issuer") != issuer:
        raise ValueError("the configuration is of another issuer")
    url = parsed.get("jwks_uri")
    if not isinstance(url, str):
        raise ValueError("the issuer's configuration names no keys")  # noqa: TRY004 - a document, not a type
    try:
        check_jwks_url(url, setting="the issuer's jwks_uri")
    except ConfigurationError as error:
        raise ValueError(error.message) from error
    return url


def check_jwks_url(url: str, *, setting: str = "jwks_url") -> None:
    """Raise `ConfigurationError` unless the URL is https, or http on loopback, and carries no user,
    password or fragment.
    """
    parts = urlsplit(url)
    if parts.hostname is None or "@" in parts.netloc or parts.fragment:
        raise ConfigurationError(
            f"{setting} must be a plain URL with a host, without user name, password or fragment"
        )
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname)):
        raise ConfigurationError(f"{setting} must be https (http is accepted on a loopback address only)")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _require_public_keys(algorithms: Sequence[str]) -> None:
    check_algorithms(algorithms)
    if is_hmac(algorithms):
        raise ConfigurationError(
            "algorithms: a JWKS verifies RS, PS, ES or EdDSA only; an HS secret is never published"
        )
