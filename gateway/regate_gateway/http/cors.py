"""Cross-origin requests of browsers (CORS): pages of listed origins may call the API with a token of their
own; of all others none may.

Nothing is ever sent by a browser on its own account here: there are no cookies, so credentials are not
allowed. Not who may call (`auth/authenticator.py`), which a preflight, that has no token, does not say.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

from starlette.types import Scope

from regate_gateway.http.bodies import header_values

Headers: TypeAlias = list[tuple[bytes, bytes]]

_METHODS: Final = b"GET, POST, DELETE"
_SHOWN: Final = (
    b"x-request-id, regate-receipt, openai-processing-ms, retry-after, x-ratelimit-limit-requests, "
    b"x-ratelimit-remaining-requests, "
    b"x-ratelimit-reset-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, "
    b"x-ratelimit-reset-tokens"
)
_REMEMBERED_SECONDS: Final = b"600"
_HEADER_NAMES: Final = re.compile(rb"[A-Za-z0-9-]+(?:, ?[A-Za-z0-9-]+){0,99}")
_VARY: Final = (b"vary", b"origin")


class CrossOrigin:
    """The rule for one list of origins, each as a browser sends it: `https://app.example.com`."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)

    def headers(self, scope: Scope) -> Headers:
        """Return what the answer to this request carries for the browser; nothing where no origin is
        listed.
        """
        if not self._origins:
            return []
        origin = self._listed(scope)
        if origin is None:
            return [_VARY]
        return [_VARY, (b"access-control-allow-origin", origin), (b"access-control-expose-headers", _SHOWN)]

    def preflight(self, scope: Scope) -> Headers | None:
        """Return the answer's headers when this request asks whether a page of a listed origin may
        send another, else None.
        """
        if scope["method"] != "OPTIONS" or not self._origins or self._listed(scope) is None:
            return None
        if not header_values(scope, b"access-control-request-method"):
            return None
        answer = [
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-max-age", _REMEMBERED_SECONDS),
        ]
        asked = b", ".join(header_values(scope, b"access-control-request-headers"))
        if _HEADER_NAMES.fullmatch(
            asked
        ):  # any may be sent: the application sees those that it reads, and no others
            answer.append((b"access-control-allow-headers", asked))
        return answer

    def _listed(self, scope: Scope) -> bytes | None:
        origins = header_values(scope, b"origin")
        return origins[0] if len(origins) == 1 and origins[0] in self._origins else None


NO_ORIGINS: Final = CrossOrigin(())
"""No page may call the API: the rule unless origins are listed."""
