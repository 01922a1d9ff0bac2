"""Token exchange (RFC 8693): the caller's token for one that a server takes. An exchanged token is used again
for its caller alone, and no longer than it and the caller's are valid.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from regate_adapters.mcp.failures import NO_TOKEN, McpFailed, http_error
from regate_adapters.mcp.settings import McpIdentity
from regate_adapters.mcp.way_out import WayOut
from regate_adapters.remembering import Remembered
from regate_orchestrator.errors import FetchFailed
from regate_orchestrator.principal import Context
from regate_orchestrator.values import Clock, wall_clock

if TYPE_CHECKING:
    import httpx2

_GRANT: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
_ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 — the name of a type
_MAX_ANSWER: Final = 64 * 1024
_MAX_TOKENS: Final = 4_096
_MAX_BYTES: Final = 32 * 1024 * 1024
_WAIT_SECONDS: Final = 10.0
_MARGIN_SECONDS: Final = 5.0


class TokenExchange:
    """Exchanges tokens at the endpoints that servers' settings name. `secrets` are the gateway's own there,
    by the label of the server.
    """

    def __init__(self, way_out: WayOut, secrets: Mapping[str, str], *, clock: Clock = wall_clock) -> None:
        self._way_out = way_out
        self._secrets = secrets
        self._clock = clock
        self._held: Remembered[tuple[str, str], str] = Remembered(
            entries=_MAX_TOKENS, most_bytes=_MAX_BYTES, clock=clock
        )

    async def token(self, context: Context, label: str, settings: McpIdentity) -> str:
        """Return a token for the caller at the server. Raises `McpFailed`, and `EgressDenied`."""
        assert context.credential is not None  # noqa: S101 — INVARIANT: whoever asks looked
        key = (label, _digest(context.credential.token))
        if (held := self._held.recall(key)) is not None:
            return held
        answer = await self._asked(context, label, settings, context.credential.token)
        token, kind, seconds = answer.get("access_token"), answer.get("token_type"), answer.get("expires_in")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable() or " " in token:
            raise McpFailed(http_error(NO_TOKEN, 502))
        if not isinstance(kind, str) or kind.lower() != "bearer":
            raise McpFailed(http_error(NO_TOKEN, 502))
        lasting = settings.ttl_s
        if isinstance(seconds, int | float) and not isinstance(seconds, bool):
            lasting = min(lasting, seconds - _MARGIN_SECONDS)
        until = min(self._clock() + lasting, context.credential.expires)
        self._held.remember(key, token, until=until)
        return token

    def drop(self, context: Context, label: str) -> None:
        """Forget the token of the caller at the server, which did not take it."""
        if context.credential is not None:
            self._held.remember((label, _digest(context.credential.token)), "", until=float("-inf"))

    async def _asked(
        self, context: Context, label: str, settings: McpIdentity, subject: str
    ) -> Mapping[str, Any]:
        import httpx2

        assert settings.token_url is not None  # noqa: S101 — INVARIANT: the settings demand it
        try:
            transport, url = await self._way_out.transport(
                context, settings.token_url, operator_named=True, limit_bytes=_MAX_ANSWER
            )
            async with httpx2.AsyncClient(
                transport=transport, trust_env=False, timeout=_WAIT_SECONDS, auth=self._auth(label, settings)
            ) as client:
                form = _form(settings, subject, has_secret=label in self._secrets)
                answer = await client.post(url, data=form)
                said = json.loads(answer.content) if answer.status_code == 200 else None
        except (httpx2.HTTPError, FetchFailed, ValueError):
            raise McpFailed(http_error(NO_TOKEN, 502)) from None
        if not isinstance(said, dict):
            raise McpFailed(http_error(NO_TOKEN, 502))
        return said

    def _auth(self, label: str, settings: McpIdentity) -> httpx2.BasicAuth | None:
        from urllib.parse import quote

        import httpx2

        secret = self._secrets.get(label)
        if secret is None or settings.client_id is None:
            return None
        return httpx2.BasicAuth(quote(settings.client_id, safe=""), quote(secret, safe=""))


def _form(settings: McpIdentity, subject: str, *, has_secret: bool) -> dict[str, str]:
    wanted = {
        "audience": settings.audience,
        "resource": settings.resource,
        "scope": settings.scope,
        "client_id": None if has_secret else settings.client_id,
    }
    return {
        "grant_type": _GRANT,
        "subject_token": subject,
        "subject_token_type": _ACCESS_TOKEN,
        "requested_token_type": _ACCESS_TOKEN,
        **{name: value for name, value in wanted.items() if value is not None},
    }


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
