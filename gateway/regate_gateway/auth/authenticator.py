"""The authenticator: from a request's one token to the principal on whose behalf everything in it is
decided.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from starlette.types import Scope

from regate_gateway.http.middleware import bearer_token, has_authorization, request_id
from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.principal import read_credential
from regate_orchestrator.values import Json, JsonObject

_ANONYMOUS: Final[JsonObject] = {"sub": "anonymous", "tenant": "anonymous"}


class Verifier(Protocol):
    """Checks a token's signature and times."""

    async def verify(self, token: str) -> Mapping[str, Json]:
        """Return the token's claims; raises `Unauthenticated`."""
        ...


class Authenticator:
    """Verifies tokens and has `regate.authn` say whom their claims name. `anonymous` is for one person
    on a loopback address.
    """

    def __init__(self, verifier: Verifier, enforcer: Enforcer, *, anonymous: bool) -> None:
        self._verifier = verifier
        self._enforcer = enforcer
        self._anonymous = anonymous

    async def context(self, scope: Scope) -> Context:
        """Return on whose behalf the request is. Raises `Unauthenticated`, and `PolicyUnavailable`
        when OPA cannot say.
        """
        identifier = request_id(scope)
        if self._anonymous and not has_authorization(scope):
            claims, method, credential = dict(_ANONYMOUS), "anonymous", None
        else:
            token = bearer_token(scope)
            claims, method = dict(await self._verifier.verify(token)), "jwt"
            credential = read_credential(token, claims)
        principal, made_for = await self._enforcer.principal(claims, method=method, request_id=identifier)
        return Context(principal, identifier, credential=credential, identified=made_for)
