"""How much of the state store a principal takes up."""

from __future__ import annotations

from typing import Protocol

from regate_orchestrator.principal import Principal


class StoredBytesState(Protocol):
    """Adds up what a principal has stored."""

    async def of(self, principal: Principal) -> int:
        """Return how many bytes of responses, conversations and versions of prompts the principal has
        stored. Must be cheap: each is asked for.
        """
        ...
