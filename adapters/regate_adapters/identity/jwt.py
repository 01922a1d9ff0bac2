"""Verified tokens: `JwtVerifier.verify(token)` returns claims or raises `Unauthenticated`; there is no third
outcome and no anonymous fallback.

Algorithms, issuer and audience are fixed by configuration; a token's header only selects a key. Not who the
caller is: claims become a principal in Rego (`regate.authn.principal`). Counterparts: `keys.py` (which key
verifies what) and `jwks.py` (where keys come from).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

import jwt
import orjson

from regate_adapters.identity.keys import MAX_KID_CHARACTERS, KeySource, check_algorithms
from regate_adapters.remembering import Remembered
from regate_orchestrator.errors import ConfigurationError, Unauthenticated
from regate_orchestrator.principal import is_name
from regate_orchestrator.values import Clock, Json, wall_clock

_log = logging.getLogger("regate.identity")

Claims: TypeAlias = Mapping[str, Json]

_MAX_TOKEN_CHARACTERS: Final = 16 * 1024
_MAX_NAMES: Final = 10_000
_MAX_VERDICTS: Final = 4_096
_MAX_BYTES: Final = 32 * 1024 * 1024
_LISTS: Final = ("teams", "roles", "projects", "namespaces")
_TYPES: Final = ("jwt", "at+jwt", "application/at+jwt")

_REFUSED_HEADERS: Final = frozenset(
    {"crit", "b64", "jku", "jwk", "x5u", "x5c", "cty", "enc", "zip", "epk", "p2c", "p2s"}
)
"""Header members that would make verification depend on the token itself, or that belong to encrypted
and nested tokens.
"""


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What every token must satisfy. `leeway_s` forgives differing clocks; `cache_s` 0 verifies every
    token every time.
    """

    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    leeway_s: float
    cache_s: float = 0.0

    def __post_init__(self) -> None:
        if not self.issuer or not self.audience:
            raise ConfigurationError(
                "issuer and audience must both be set: without them any token of the issuer is accepted"
            )
        if not 0 <= self.leeway_s <= 300 or not 0 <= self.cache_s <= 300:
            raise ConfigurationError("leeway_s and cache_s must be between 0 and 300 seconds")
        check_algorithms(self.algorithms)


class JwtVerifier:
    """Verifies bearer tokens. One per issuer; safe to share between requests."""

    def __init__(self, rules: TokenRules, *, keys: KeySource, clock: Clock = wall_clock) -> None:
        self._rules = rules
        self._keys = keys
        self._clock = clock
        self._signatures = jwt.PyJWS(
            algorithms=rules.algorithms, options={"enforce_minimum_key_length": True}
        )
        self._verdicts: Remembered[bytes, Claims] = Remembered(
            entries=_MAX_VERDICTS, most_bytes=_MAX_BYTES, clock=clock
        )

    @property
    def ready(self) -> bool:
        """Whether any verification key is at hand."""
        return self._keys.ready

    async def verify(self, token: str) -> Claims:
        """Return the claims of a token whose signature, issuer, audience, times and claim types all
        hold. Raises `Unauthenticated`.
        """
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        cached = self._verdicts.recall(digest)
        if cached is not None:
            return cached
        try:
            claims = await self._verified(token)
        except _Refused as refused:
            _log.info("token refused: %s", refused)
            raise Unauthenticated.refused() from None
        self._remember(digest, claims)
        return claims

    async def _verified(self, token: str) -> Claims:
        header = _read_header(token)
        algorithm, kid = header["alg"], header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in self._rules.algorithms:
            raise _Refused("algorithm not configured")
        if kid is not None and not (isinstance(kid, str) and 0 < len(kid) <= MAX_KID_CHARACTERS):
            raise _Refused("kid is not a short string")
        key = await self._keys.key(kid, algorithm=algorithm)
        if key is None:
            raise _Refused("no such key")
        try:
            payload = self._signatures.decode(token, key.material, algorithms=[algorithm])
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise _Refused(f"signature: {type(error).__name__}") from None
        claims = _read_object(payload)
        self._check_envelope(claims)
        _check_grammar(claims)
        return MappingProxyType(claims)

    def _check_envelope(self, claims: Claims) -> None:
        """The registered claims: issuer, audience and times. `exp` is required; `nbf` and `iat` bind
        when they are there.
        """
        if claims.get("iss") != self._rules.issuer:
            raise _Refused("issuer")
        audience = claims.get("aud")
        audiences = [audience] if isinstance(audience, str) else audience
        if (
            not isinstance(audiences, list)
            or not all(isinstance(one, str) for one in audiences)
            or self._rules.audience not in audiences
        ):
            raise _Refused("audience")
        now, leeway = self._clock(), self._rules.leeway_s
        if _moment(claims, "exp") <= now - leeway:
            raise _Refused("expired")
        if any(name in claims and _moment(claims, name) > now + leeway for name in ("nbf", "iat")):
            raise _Refused("not yet valid")

    def _remember(self, digest: bytes, claims: Claims) -> None:
        """Keep a good verdict, under the whole token's digest, never past the token's own expiry."""
        if self._rules.cache_s:
            self._verdicts.remember(
                digest, claims, until=min(_moment(claims, "exp"), self._clock() + self._rules.cache_s)
            )


def mint_development_token(
    secret: bytes,
    *,
    issuer: str,
    audience: str,
    subject: str,
    tenant: str,
    ttl_s: int,
    teams: Sequence[str] = (),
    roles: Sequence[str] = (),
    projects: Sequence[str] = (),
    namespaces: Sequence[str] = (),
    scopes: Sequence[str] = (),
    clearance: int = 0,
    clock: Clock = wall_clock,
) -> str:
    """Return an HS256 token that a verifier with this secret accepts. For development and
    demonstrations only.
    """
    now = int(clock())
    claims: dict[str, Json] = {
        "iss": issuer,
        "aud": audience,
        "iat": now,
        "exp": now + ttl_s,
        "sub": subject,
        "tenant": tenant,
        "teams": list(teams),
        "roles": list(roles),
        "projects": list(projects),
        "namespaces": list(namespaces),
        "scope": " ".join(scopes),
        "clearance": clearance,
    }
    try:
        _check_grammar(claims)
    except _Refused as refused:
        raise ConfigurationError(f"no such token can be accepted: {refused}") from None
    return jwt.PyJWS(options={"enforce_minimum_key_length": True}).encode(
        orjson.dumps(claims), secret, algorithm="HS256"
    )


class _Refused(Exception):
    """A check failed; its text goes to the log and never holds a claim's value."""


def _read_header(token: str) -> Mapping[str, Json]:
    """The header of a compact, signed, three-part token; every other form is refused before any
    cryptography.
    """
    if not token.isascii() or len(token) > _MAX_TOKEN_CHARACTERS:
        raise _Refused("not a token of allowed length")
    parts = token.split(".")
    if len(parts) != 3 or not all(parts):
        raise _Refused("not three parts")
    try:
        raw = base64.b64decode(parts[0] + "=" * (-len(parts[0]) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _Refused("header encoding") from None
    header = _read_object(raw)
    if "alg" not in header or not _REFUSED_HEADERS.isdisjoint(header):
        raise _Refused("header members")
    kind = header.get("typ")
    if kind is not None and not (isinstance(kind, str) and kind.lower() in _TYPES):
        raise _Refused("token type")
    return header


def _read_object(raw: bytes) -> dict[str, Json]:
    try:
        parsed = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise _Refused("not JSON") from None
    if not isinstance(parsed, dict):
        raise _Refused("not an object")
    return parsed


def _moment(claims: Claims, name: str) -> float:
    value = claims.get(name)
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or abs(value) > 2**53
    ):
        raise _Refused(f"{name} is not a time")
    return float(value)


def _is_count(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 2**53


def _is_list(value: Json) -> bool:
    return (
        isinstance(value, list) and len(value) <= _MAX_NAMES and all(isinstance(name, str) for name in value)
    )


_GRAMMAR: Final[Mapping[str, Callable[[Json], bool]]] = {
    "sub": is_name,
    "tenant": is_name,
    **dict.fromkeys(_LISTS, _is_list),
    "scope": lambda value: isinstance(value, str) or _is_list(value),
    "clearance": _is_count,
}
"""The claims that the default mapping reads, and the types they must have where they are present."""


def _check_grammar(claims: Claims) -> None:
    """Refuse wrong types before the policy sees them. `sub` is required; a tenant is required by the
    policy, which may read another claim.
    """
    if "sub" not in claims:
        raise _Refused("sub is missing")
    for name, holds in _GRAMMAR.items():
        if name in claims and not holds(claims[name]):
            raise _Refused(f"{name} has the wrong type or form")
