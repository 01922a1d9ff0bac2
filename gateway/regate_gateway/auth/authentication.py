"""From settings to a token verifier: which keys, which rules, and the secret that development mode makes for
itself.

Not the verification (`regate_adapters.identity`), and not the reading of a request's header
(`middleware.bearer_token`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from regate_adapters.identity.jwks import JwksFile, JwksUrl
from regate_adapters.identity.jwt import JwtVerifier, TokenRules
from regate_adapters.identity.keys import SharedSecret
from regate_gateway.config.secret import (
    MIN_SECRET_BYTES,
    Secret,
    own_secret,
    secret_from_environment,
    secret_from_file,
)
from regate_gateway.config.settings import Settings
from regate_orchestrator.errors import ConfigurationError
from regate_orchestrator.values import Clock, wall_clock

DEVELOPMENT_ISSUER: Final = "regate-dev"
DEVELOPMENT_AUDIENCE: Final = "regate"
_DEVELOPMENT_LEEWAY_SECONDS: Final = 5.0


@asynccontextmanager
async def open_verifier(settings: Settings, *, clock: Clock = wall_clock) -> AsyncIterator[JwtVerifier]:
    """Enter a verifier for the configured issuer, or for development tokens. Raises
    `ConfigurationError`; an unreachable JWKS URL does not.
    """
    rules, jwt = token_rules(settings), settings.auth.jwt
    if jwt is not None and jwt.jwks_url is not None:
        async with JwksUrl(jwt.jwks_url, algorithms=rules.algorithms) as keys:
            yield JwtVerifier(rules, keys=keys, clock=clock)
    elif jwt is not None and jwt.jwks_file is not None:
        yield JwtVerifier(rules, keys=JwksFile(jwt.jwks_file, algorithms=rules.algorithms), clock=clock)
    else:
        secret = shared_secret(settings).reveal().encode()
        yield JwtVerifier(rules, keys=SharedSecret(secret, algorithms=rules.algorithms), clock=clock)


def token_rules(settings: Settings) -> TokenRules:
    """Return what every token must satisfy under these settings."""
    jwt = settings.auth.jwt
    if jwt is None:
        return TokenRules(
            DEVELOPMENT_ISSUER, DEVELOPMENT_AUDIENCE, ("HS256",), leeway_s=_DEVELOPMENT_LEEWAY_SECONDS
        )
    return TokenRules(jwt.issuer, jwt.audience, jwt.algorithms, leeway_s=jwt.leeway_s, cache_s=jwt.cache_s)


def development_secret(settings: Settings) -> Path | None:
    """Return the file of development mode's own secret, or None where one is configured."""
    return settings.data_dir / "development.secret" if settings.auth.jwt is None else None


def shared_secret(settings: Settings) -> Secret:
    """Return the HS secret: the configured one, or development mode's own, made at first use. Raises
    `ConfigurationError`.
    """
    own, jwt = development_secret(settings), settings.auth.jwt
    if own is not None:
        return own_secret(own, setting="data_dir")
    assert jwt is not None  # noqa: S101 — INVARIANT: without it the secret is our own
    if jwt.secret_env is not None:
        secret, setting = (
            secret_from_environment(jwt.secret_env, setting="auth.jwt.secret_env"),
            "auth.jwt.secret_env",
        )
    elif jwt.secret_file is not None:
        secret, setting = (
            secret_from_file(jwt.secret_file, setting="auth.jwt.secret_file"),
            "auth.jwt.secret_file",
        )
    else:
        raise ConfigurationError(
            "auth.jwt: tokens of this issuer are signed with its private key, which the gateway does not have"
        )
    if len(secret.reveal().encode()) < MIN_SECRET_BYTES:
        raise ConfigurationError(f"{setting}: the secret has fewer than {MIN_SECRET_BYTES} bytes")
    return secret


def check_authentication(settings: Settings) -> None:
    """Raise `ConfigurationError` when the keys that the settings name cannot be used. Makes nothing
    and asks no network.
    """
    rules, jwt = token_rules(settings), settings.auth.jwt
    if jwt is None:
        return
    if jwt.jwks_url is not None:
        JwksUrl(jwt.jwks_url, algorithms=rules.algorithms)
    elif jwt.jwks_file is not None:
        JwksFile(jwt.jwks_file, algorithms=rules.algorithms)
    else:
        SharedSecret(shared_secret(settings).reveal().encode(), algorithms=rules.algorithms)
