"""The authenticator: from a request's one token to the principal on whose behalf everything in it is
decided.

A client's certificate is the identity where there is no token. Where there are both, the token is, and the
policy sees the certificate beside it (`input.peer`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.types import Scope

from regate_gateway.auth.providers import ANONYMOUS, Provider, Providers
from regate_gateway.http.connection import peer_certificate
from regate_gateway.http.middleware import bearer_token, has_authorization, request_id, request_span
from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.errors import Unauthenticated
from regate_orchestrator.principal import Authentication, is_name, read_credential
from regate_orchestrator.tracing.spans import PRINCIPAL
from regate_orchestrator.values import Json, JsonObject

_ANONYMOUS_CLAIMS: Final[JsonObject] = {"sub": "anonymous", "tenant": "anonymous"}


class Authenticator:
    """Has tokens verified by the provider that each names, and has `regate.authn` say whom the claims name.
    `anonymous` is for one person on a loopback address. `tells_principal` has traces name who asks, by a
    digest.
    """

    def __init__(
        self, providers: Providers, enforcer: Enforcer, *, anonymous: bool, tells_principal: bool = False
    ) -> None:
        self._providers = providers
        self._enforcer = enforcer
        self._anonymous = anonymous
        self._tells_principal = tells_principal

    async def context(self, scope: Scope) -> Context:
        """Return on whose behalf the request is. Raises `Unauthenticated`, and `Unavailable` when a provider
        or OPA cannot say.
        """
        identifier, credential = request_id(scope), None
        certificate, certificates = peer_certificate(scope), self._providers.certificates
        peer = None if certificate is None else _facts(certificate)
        claims: Mapping[str, Json]
        if certificate is not None and certificates is not None and not has_authorization(scope):
            claims = await certificates.verifier.verify(certificate)
            authentication = _by(certificates, claims, peer)
        elif self._anonymous and not has_authorization(scope):
            claims, authentication = _ANONYMOUS_CLAIMS, Authentication(ANONYMOUS, ANONYMOUS, peer=peer)
        else:
            token = bearer_token(scope)
            provider = self._providers.of_token(token)
            if provider is None:
                raise Unauthenticated.refused()
            claims = await provider.verifier.verify(token)
            authentication = _by(provider, claims, peer)
            credential = read_credential(token, claims)
        span = request_span(scope)
        principal, made_for = await self._enforcer.principal(
            dict(claims), authentication=authentication, request_id=identifier, span=span
        )
        if span is not None and self._tells_principal:
            span.note({PRINCIPAL: principal.digest})
        return Context(
            principal,
            identifier,
            credential=credential,
            identified=made_for,
            authentication=authentication,
            span=span,
        )


def _facts(certificate: str) -> JsonObject | None:
    from regate_adapters.identity.certificates import read_certificate

    return read_certificate(certificate)


def _by(provider: Provider, claims: Mapping[str, Json], peer: JsonObject | None) -> Authentication:
    identifier = claims.get("jti")
    credential = identifier if isinstance(identifier, str) and is_name(identifier) else None
    return Authentication(provider.name, provider.kind, credential, peer)
