"""Sealed items: what a client keeps for us and must neither read nor make, `encrypted_content` of reasoning and compaction items.

What is sealed is bound to the tenant, and reasoning to its model, and carries its lineage: when it comes back, everything it was made
from is decided again, as for a stored item. The cipher is a port; nothing here knows a key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, cast

from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.rows import ChunkRef
from regate_orchestrator.values import FileId, Json, JsonObject, StoreId

SEALED: Final = frozenset({"reasoning", "compaction"})
"""The item types that can come back sealed."""


class Sealer(Protocol):
    """Authenticated encryption under a key of this deployment. Pure but for the nonce: no IO, no waiting."""

    def seal(self, payload: JsonObject, *, purpose: str) -> str:
        """Return the payload as printable text that only `unseal` with the same purpose can read, and nobody else can make."""
        ...

    def unseal(self, sealed: str, *, purpose: str) -> Json:
        """Return the payload; None for whatever was not sealed by this deployment for this purpose."""
        ...


class NoSealer:
    """For runs that seal nothing: it makes no text and accepts none."""

    def seal(self, payload: JsonObject, *, purpose: str) -> str:
        """Return nothing that could be read again."""
        del payload, purpose
        return ""

    def unseal(self, sealed: str, *, purpose: str) -> Json:
        """Accept nothing."""
        del sealed, purpose
        return None


@dataclass(frozen=True, slots=True)
class Unsealed:
    """What was in a sealed item, and what it was made from."""

    text: str
    lineage: tuple[ChunkRef, ...]


def seal(sealer: Sealer, kind: str, text: str, lineage: Sequence[ChunkRef], *, tenant: str, model: str) -> str:
    """Return the `encrypted_content` of an item of this kind."""
    refs: list[Json] = [[ref.store_id, ref.file_id, ref.chunk_id, ref.stamp] for ref in lineage]
    return sealer.seal({"text": text, "lineage": refs}, purpose=_purpose(kind, tenant, model))


def unseal(sealer: Sealer, body: JsonObject, *, tenant: str, model: str, param: str = "input") -> Unsealed:
    """Return what a client sent back in `encrypted_content`. Raises `InvalidRequest` for what was not made here, for this tenant and model."""
    kind = cast("str", body["type"])
    payload = sealer.unseal(cast("str", body["encrypted_content"]), purpose=_purpose(kind, tenant, model))
    if not isinstance(payload, Mapping):
        message = (
            f"The encrypted content of the {kind} item could not be verified. Send it back as it was given, to the model that made it."
        )
        raise InvalidRequest(message, param=param, code="invalid_encrypted_content")
    refs = cast("Sequence[tuple[StoreId, FileId, str, JsonObject]]", payload["lineage"])
    return Unsealed(str(payload["text"]), tuple(ChunkRef(*ref) for ref in refs))


def _purpose(kind: str, tenant: str, model: str) -> str:
    # Reasoning is a model's own; a summary may be read by any model that the conversation goes on with.
    return "\0".join((kind, tenant, model if kind == "reasoning" else ""))
