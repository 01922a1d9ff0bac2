"""Who vouches for callers. What a provider vouches for becomes a principal in Rego
(`regate.authn.principal`), never here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from regate_orchestrator.values import Json


class IdentityProvider(Protocol):
    """Verifies one kind of credential. It is handed only what names it (`gateway/auth/providers.py`): no
    credential is ever tried at several providers.
    """

    async def verify(self, presented: str) -> Mapping[str, Json]:
        """Return the claims that a bearer token, or a certificate in PEM, stands for, with the types that
        the default mapping reads. `jti` is the credential's own id, where it has one.

        Raises `Unauthenticated` for whatever does not hold, always in the same words
        (`Unauthenticated.refused`), and `Unavailable` when that cannot be known now. There must be no third
        outcome.
        """
        ...
