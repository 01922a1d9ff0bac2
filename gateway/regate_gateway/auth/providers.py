"""The providers of identities, and which of them verifies a credential.

What a token says of itself, unverified, names the one provider that is asked: the prefix of API keys, or an
issuer that is exactly a provider's. No token is ever tried at several, so no provider learns another's
tokens, and none answers for what another refused. Not the verification (`regate_adapters.identity`), and not
how providers are opened (`opening.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from regate_adapters.identity.unverified import API_KEY_PREFIX, issuer_in
from regate_orchestrator.ports import IdentityProvider

Kind: TypeAlias = Literal["jwt", "kubernetes", "api_key", "mtls"]

ANONYMOUS: Final = "anonymous"
"""The provider of whoever comes without a credential, where that is permitted."""


@dataclass(frozen=True, slots=True)
class Provider:
    """An opened provider, by the name and kind that policies and records know. `issuer` is whose tokens it
    verifies; a provider of tokens without one takes those of no other.
    """

    name: str
    kind: Kind
    verifier: IdentityProvider
    issuer: str | None = None


class Providers:
    """All providers of a gateway. The settings see to it that no two of them could be meant."""

    def __init__(self, providers: Sequence[Provider]) -> None:
        of_tokens = [one for one in providers if one.kind in {"jwt", "kubernetes"}]
        self._by_issuer = {one.issuer: one for one in of_tokens if one.issuer is not None}
        self._others = next((one for one in of_tokens if one.issuer is None), None)
        self._api_keys = next((one for one in providers if one.kind == "api_key"), None)
        is_lone = len(of_tokens) == 1 and self._api_keys is None and of_tokens[0].kind == "jwt"
        self._only = of_tokens[0] if is_lone else None
        self.certificates = next((one for one in providers if one.kind == "mtls"), None)
        """Who vouches for callers that present a certificate and no token."""

    def of_token(self, token: str) -> Provider | None:
        """Return who verifies this token, or None when nobody does."""
        if self._only is not None:  # it looks at the issuer itself, and tells nobody of the token
            return self._only
        if token.startswith(API_KEY_PREFIX):
            return self._api_keys
        issuer = issuer_in(token) if self._by_issuer else None
        return self._others if issuer is None else self._by_issuer.get(issuer, self._others)
