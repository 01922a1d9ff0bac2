"""Kubernetes service accounts: the cluster's own API says whose a token is (TokenReview,
`authentication.k8s.io/v1`), and, where a namespace says by a label which tenant it belongs to, what labels it
has. The gateway asks as its own service account.

It fails closed: a token holds only where `status.authenticated` is exactly true, no `error` is there, and
`status.audiences` names our audience. An API that answers anything else, or late, is `IdentityUnavailable`.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, NoReturn, Self, TypeVar

import aiohttp
import orjson

from regate_adapters.identity.unverified import payload_of
from regate_adapters.remembering import Remembered
from regate_orchestrator.errors import ConfigurationError, IdentityUnavailable, Unauthenticated
from regate_orchestrator.values import Clock, Json, wall_clock

_log = logging.getLogger("regate.identity")

Value = TypeVar("Value")

_REVIEWS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
_NAMESPACES: Final = "/api/v1/namespaces/"
_ACCOUNT: Final = re.compile(
    r"system:serviceaccount:([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?):([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)"
)
_EXTRA: Final = "authentication.kubernetes.io/"
_MAX_AT_ONCE: Final = 16
_MAX_BYTES: Final = 1024 * 1024
_MAX_TOKEN_BYTES: Final = 64 * 1024
_MAX_GROUPS: Final = 1_000
_MAX_VERDICTS: Final = 4_096
_MAX_CACHE_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class KubernetesApi:
    """Where the cluster's API is, and as whom it is asked. Both files are read again when they change: the
    kubelet rotates them.
    """

    url: str
    ca_file: Path
    token_file: Path
    deadline_s: float = 3.0
    """How long a whole verification may take, its wait for a turn included."""


@dataclass(frozen=True, slots=True)
class AccountRules:
    """What a token must be for, and whose tenant its account is: a fixed one, or what a label of its
    namespace says. `cache_s` is at most 60.
    """

    audience: str
    tenant: str | None
    tenant_label: str | None
    cache_s: float


class KubernetesVerifier:
    """Verifies tokens of service accounts by asking the cluster. Must be entered (`async with`).

    A verdict is remembered under the digest of the whole token, for `cache_s` and never past the token's own
    expiry. A refusal is not remembered. Few reviews run at once, so that a flood of tokens does not become
    one at the API.
    """

    def __init__(self, api: KubernetesApi, rules: AccountRules, *, clock: Clock = wall_clock) -> None:
        self._api = api
        self._rules = rules
        self._clock = clock
        self._turns = asyncio.Semaphore(_MAX_AT_ONCE)
        self._token = _Kept(api.token_file, _read_token)
        self._authorities = _Kept(api.ca_file, _read_authorities)
        self._session: aiohttp.ClientSession | None = None
        self._verdicts: Remembered[bytes, Mapping[str, Json]] = Remembered(
            entries=_MAX_VERDICTS, most_bytes=_MAX_CACHE_BYTES, clock=clock
        )

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, headers={"Accept": "application/json"}
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def verify(self, presented: str) -> Mapping[str, Json]:
        """Return the claims of the service account whose token it is. Raises `Unauthenticated`, and
        `IdentityUnavailable` when the API gives no usable answer in time.
        """
        digest = hashlib.sha256(presented.encode()).digest()
        cached = self._verdicts.recall(digest)
        if cached is not None:
            return cached
        try:
            async with asyncio.timeout(self._api.deadline_s), self._turns:
                cached = self._verdicts.recall(digest)  # another request with this token may have asked
                return cached if cached is not None else await self._asked(presented, digest)
        except TimeoutError as error:
            raise IdentityUnavailable(f"no answer within {self._api.deadline_s:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise IdentityUnavailable(f"the Kubernetes API: {error or type(error).__name__}") from error

    async def examine(self) -> str:
        """Return in words whether tokens can be reviewed, for the operator. Raises `ConfigurationError`."""
        try:
            await self.verify("not.a.token")
        except Unauthenticated:
            return f"{self._api.url} reviews tokens"
        except IdentityUnavailable as error:
            raise ConfigurationError(error.detail) from error
        raise ConfigurationError(f"{self._api.url} takes anything for a token")

    async def _asked(self, token: str, digest: bytes) -> Mapping[str, Json]:
        claims = await self._reviewed(token)
        if self._rules.tenant is not None:
            claims["tenant"] = self._rules.tenant
        elif self._rules.tenant_label is not None:
            labels = await self._labels(str(claims["namespace"]))
            if isinstance(tenant := labels.get(self._rules.tenant_label), str):
                claims["tenant"] = tenant  # without one, the policy makes no principal
        until = self._clock() + self._rules.cache_s
        expires = (payload_of(token) or {}).get("exp")  # the cluster verified the token that says so
        if isinstance(expires, int | float) and not isinstance(expires, bool):
            claims["exp"] = expires
            until = min(until, expires)
        self._verdicts.remember(digest, claims, until=until)
        return claims

    async def _reviewed(self, token: str) -> dict[str, Json]:
        """Return what the cluster says of the token. Raises `Unauthenticated`, `ValueError` for an answer of
        another shape, and what aiohttp raises.
        """
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [self._rules.audience]},
        }
        status, answer = await self._call("POST", _REVIEWS, orjson.dumps(review))
        found = answer.get("status")
        if status not in {200, 201} or answer.get("kind") != "TokenReview" or not isinstance(found, dict):
            raise ValueError(f"no review of a token, but {status}")
        if found.get("error") or found.get("authenticated") is not True:
            _refuse("the cluster does not know it")
        audiences = found.get("audiences")
        if not isinstance(audiences, list) or self._rules.audience not in audiences:
            _refuse("for another audience")
        return _claims(found.get("user"), audience=self._rules.audience)

    async def _labels(self, namespace: str) -> Mapping[str, Any]:
        status, answer = await self._call("GET", _NAMESPACES + namespace, None)
        if status == 404:
            _refuse("its namespace is gone")
        metadata = answer.get("metadata")
        if status != 200 or answer.get("kind") != "Namespace" or not isinstance(metadata, dict):
            raise ValueError(f"no namespace, but {status}")
        labels = metadata.get("labels")
        return labels if isinstance(labels, dict) else {}

    async def _call(self, method: str, path: str, body: bytes | None) -> tuple[int, dict[str, Any]]:
        """Return the status and the JSON object of an answer, which is bounded."""
        if self._session is None:
            raise ValueError("closed")
        tls = self._authorities.read() if self._api.url.startswith("https:") else True
        headers = {"Authorization": f"Bearer {self._token.read()}", "Content-Type": "application/json"}
        asking = self._session.request(
            method, self._api.url + path, data=body, headers=headers, ssl=tls, allow_redirects=False
        )
        async with asking as answer:
            document = bytearray()
            async for piece in answer.content.iter_chunked(65_536):
                document += piece
                if len(document) > _MAX_BYTES:
                    raise ValueError(f"an answer of more than {_MAX_BYTES} bytes")
            parsed = orjson.loads(document) if answer.content_type == "application/json" else None
            return answer.status, parsed if isinstance(parsed, dict) else {}


def check_files(api: KubernetesApi) -> None:
    """Raise `ConfigurationError` when the files that the API is asked with cannot be read."""
    needed: dict[str, tuple[Path, Callable[[Path], object]]] = {"token_file": (api.token_file, _read_token)}
    if api.url.startswith("https:"):
        needed["ca_file"] = (api.ca_file, _read_authorities)
    for setting, (path, read) in needed.items():
        try:
            read(path)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{setting}: {path} cannot be used: {error}") from error


def _claims(user: object, *, audience: str) -> dict[str, Json]:
    if not isinstance(user, dict) or not isinstance(user.get("username"), str):
        raise ValueError("a review without a user")  # noqa: TRY004 - an answer, not a type
    account = _ACCOUNT.fullmatch(user["username"])
    if account is None:
        _refuse("not of a service account")
    groups, extra = user.get("groups", []), user.get("extra")
    if not isinstance(groups, list) or len(groups) > _MAX_GROUPS:
        raise ValueError("groups of another shape")
    claims: dict[str, Json] = {
        "sub": user["username"],
        "aud": audience,
        "namespace": account.group(1),
        "service_account": account.group(2),
        "groups": [group for group in groups if isinstance(group, str)],
    }
    if isinstance(user.get("uid"), str):
        claims["uid"] = user["uid"]
    for claim, name in (("pod", "pod-name"), ("node", "node-name"), ("jti", "credential-id")):
        values = extra.get(_EXTRA + name) if isinstance(extra, dict) else None
        if isinstance(values, list) and len(values) == 1 and isinstance(values[0], str):
            claims[claim] = values[0].removeprefix("JTI=")
    return claims


def _refuse(why: str) -> NoReturn:
    _log.info("service account token refused: %s", why)
    raise Unauthenticated.refused()


class _Kept(Generic[Value]):
    """What a file holds, read again when the file changes."""

    def __init__(self, path: Path, read: Callable[[Path], Value]) -> None:
        self._path = path
        self._read = read
        self._seen: tuple[int, int, int] | None = None
        self._value: Value | None = None

    def read(self) -> Value:
        """Return what it holds now. Raises `OSError` and `ValueError`: an old value is not used on."""
        about = self._path.stat()
        mark = about.st_mtime_ns, about.st_size, about.st_ino
        if self._value is None or mark != self._seen:
            self._value = self._read(self._path)
            self._seen = mark
        return self._value


def _read_token(path: Path) -> str:
    with path.open("rb") as file:
        token = file.read(_MAX_TOKEN_BYTES + 1).decode("ascii").strip()
    if not token or len(token) > _MAX_TOKEN_BYTES or not token.isprintable():
        raise ValueError("it holds no token")
    return token


def _read_authorities(path: Path) -> ssl.SSLContext:
    """Return a context that trusts these authorities alone. Raises `OSError`, of which `ssl.SSLError` is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(path)
    return context
