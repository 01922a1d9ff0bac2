"""From settings to what verifies JWTs: which keys, which rules, and the secret that development mode makes
for itself.

Not the verification (`regate_adapters.identity`), not the other kinds of providers (`opening.py`), and not
the reading of a request's header (`middleware.bearer_token`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from regate_adapters.identity.jwks import DiscoveredJwks, JwksFile, JwksUrl
from regate_adapters.identity.jwt import JwtVerifier, TokenRules
from regate_adapters.identity.keys import KeySource, SharedSecret
from regate_gateway.config.auth_settings import Jwt, JwtProvider
from regate_gateway.config.secret import (
    MIN_SECRET_BYTES,
    Secret,
    own_secret,
    secret_from_environment,
    secret_from_file,
)
from regate_gateway.config.settings import Settings
from regate_orchestrator.errors import ConfigurationError, naming
from regate_orchestrator.values import Clock, wall_clock

DEVELOPMENT_ISSUER: Final = "regate-dev"
DEVELOPMENT_AUDIENCE: Final = "regate"
_DEVELOPMENT_LEEWAY_SECONDS: Final = 5.0
_DEVELOPMENT_RULES: Final = TokenRules(
    DEVELOPMENT_ISSUER, DEVELOPMENT_AUDIENCE, ("HS256",), leeway_s=_DEVELOPMENT_LEEWAY_SECONDS
)


@asynccontextmanager
async def open_jwt_verifier(jwt: Jwt, *, place: str, clock: Clock = wall_clock) -> AsyncIterator[JwtVerifier]:
    """Enter a verifier of the issuer's tokens. `place` is the setting that holds it. Raises
    `ConfigurationError`; an address of keys that does not answer does not.
    """
    async with AsyncExitStack() as stack:
        keys = key_source(jwt, place=place)
        if isinstance(keys, JwksUrl):
            await stack.enter_async_context(keys)
        yield JwtVerifier(rules_of(jwt), keys=keys, clock=clock)


def key_source(jwt: Jwt, *, place: str) -> KeySource:
    """Return where the issuer's keys come from. Raises `ConfigurationError` when it cannot be used. Asks no
    network.
    """
    with naming(place):
        algorithms = rules_of(jwt).algorithms
        if jwt.discovery:
            return DiscoveredJwks(jwt.issuer, algorithms=algorithms)
        if jwt.jwks_url is not None:
            return JwksUrl(jwt.jwks_url, algorithms=algorithms)
        if jwt.jwks_file is not None:
            return JwksFile(jwt.jwks_file, algorithms=algorithms)
    secret = _configured_secret(jwt, place=place).reveal().encode()
    with naming(place):
        return SharedSecret(secret, algorithms=algorithms)


def development_verifier(settings: Settings, *, clock: Clock = wall_clock) -> JwtVerifier:
    """Return what verifies development tokens. Raises `ConfigurationError` when its secret cannot be kept."""
    secret = shared_secret(settings).reveal().encode()
    keys = SharedSecret(secret, algorithms=_DEVELOPMENT_RULES.algorithms)
    return JwtVerifier(_DEVELOPMENT_RULES, keys=keys, clock=clock)


def rules_of(jwt: Jwt) -> TokenRules:
    """Return what every token of this issuer must satisfy."""
    return TokenRules(jwt.issuer, jwt.audience, jwt.algorithms, leeway_s=jwt.leeway_s, cache_s=jwt.cache_s)


def token_rules(settings: Settings) -> TokenRules:
    """Return what the tokens must satisfy that this gateway can mint. Raises `ConfigurationError` where it
    can mint none, or for several issuers.
    """
    return _DEVELOPMENT_RULES if settings.is_development else rules_of(_minted(settings))


def development_secret(settings: Settings) -> Path | None:
    """Return the file of development mode's own secret, or None where one is configured."""
    return settings.data_dir / "development.secret" if settings.is_development else None


def shared_secret(settings: Settings) -> Secret:
    """Return the HS secret: the configured one, or development mode's own, made at first use. Raises
    `ConfigurationError`.
    """
    own = development_secret(settings)
    if own is not None:
        return own_secret(own, setting="data_dir")
    entry = _minted(settings)
    return _configured_secret(entry, place=settings.auth.place_of(entry))


def _minted(settings: Settings) -> JwtProvider:
    """Return the one issuer whose secret is shared with the gateway."""
    entries = [one for one in settings.auth.entries if isinstance(one, JwtProvider)]
    shared = [one for one in entries if one.secret_env is not None or one.secret_file is not None]
    if len(shared) == 1:
        return shared[0]
    if shared:
        names = ", ".join(one.name for one in shared)
        raise ConfigurationError(f"auth.providers: several issuers share a secret with the gateway ({names})")
    place = settings.auth.place_of(entries[0]) if entries else "auth.providers"
    raise ConfigurationError(
        f"{place}: tokens of this issuer are signed with its private key, which the gateway does not have"
        if entries
        else f"{place}: there is no issuer of JWTs among them"
    )


def _configured_secret(jwt: Jwt, *, place: str) -> Secret:
    if jwt.secret_env is not None:
        setting = f"{place}.secret_env"
        secret = secret_from_environment(jwt.secret_env, setting=setting)
    else:
        assert jwt.secret_file is not None  # noqa: S101 — INVARIANT: settings demand one source of keys
        setting = f"{place}.secret_file"
        secret = secret_from_file(jwt.secret_file, setting=setting)
    if len(secret.reveal().encode()) < MIN_SECRET_BYTES:
        raise ConfigurationError(f"{setting}: the secret has fewer than {MIN_SECRET_BYTES} bytes")
    return secret
