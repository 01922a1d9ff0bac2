"""What the demonstration does beside being a client: making tokens and reading the audit log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from regate_gateway.auth.authentication import shared_secret, token_rules
from regate_gateway.config.settings import Settings


def read_audit(
    settings: Settings, *, request_id: str | None, response_id: str | None
) -> Iterator[dict[str, Any]]:
    """Yield the audit records of a request or a response, or all, oldest first."""
    from regate_adapters.audit.reading import read

    return read(settings.audit.path, request_id=request_id, response_id=response_id)


def mint_token(
    settings: Settings, *, subject: str, tenant: str, teams: Sequence[str] = (), roles: Sequence[str] = ()
) -> str:
    """Return a development token that a gateway with these settings accepts. Raises
    `ConfigurationError` where it holds no secret.
    """
    from regate_adapters.identity.jwt import mint_development_token

    rules = token_rules(settings)
    secret = shared_secret(settings).reveal().encode()
    return mint_development_token(
        secret,
        issuer=rules.issuer,
        audience=rules.audience,
        subject=subject,
        tenant=tenant,
        ttl_s=3600,
        teams=teams,
        roles=roles,
    )
