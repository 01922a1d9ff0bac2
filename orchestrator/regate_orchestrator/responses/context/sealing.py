"""Sealed items: what a client keeps for us and must neither read nor make, `encrypted_content` of reasoning
and compaction items.

What is sealed is bound to the person it was made for, subject and tenant (I8a), and reasoning to its model,
and carries its lineage: when it comes back, everything it was made from is decided again, as for a stored
item. The cipher is a port; nothing here knows a key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol, cast

from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.lineage import Lineage, read_sources, written
from regate_orchestrator.values import Json, JsonObject

SEALED: Final = frozenset({"reasoning", "compaction"})
"""The item types that can come back sealed."""


class Sealer(Protocol):
    """Authenticated encryption under a key of this deployment. Pure but for the nonce: no IO, no waiting."""

    def seal(self, payload: JsonObject, *, purpose: str) -> str:
        """Return the payload as printable text that only `unseal` with the same purpose can read, and
        nobody else can make.
        """
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
    lineage: Lineage


def seal(
    sealer: Sealer, kind: str, text: str, lineage: Lineage, *, tenant: str, owner: str, model: str
) -> str:
    """Return the `encrypted_content` of an item of this kind, made for this person."""
    payload: JsonObject = {"text": text, "lineage": written(lineage), "owner": owner}
    return sealer.seal(payload, purpose=_purpose(kind, tenant, model))


def unseal(
    sealer: Sealer, body: JsonObject, *, tenant: str, owner: str, model: str, param: str = "input"
) -> Unsealed:
    """Return what a client sent back in `encrypted_content`. Raises `InvalidRequest` for what was not
    made here, for this person and model.
    """
    payload = _opened(sealer, body, tenant=tenant, model=model)
    if payload is None or payload.get("owner") != owner:
        raise _unverified(body, param=param)
    return Unsealed(str(payload["text"]), Lineage.of(read_sources(payload["lineage"])))


def kept_text(sealer: Sealer, body: JsonObject, *, tenant: str, model: str) -> str:
    """Return the text in a sealed item that is stored here, whoever it was made for: who may use it
    again is decided by what holds it.
    """
    payload = _opened(sealer, body, tenant=tenant, model=model)
    if payload is None:
        raise _unverified(body, param="input")
    return str(payload["text"])


def _opened(sealer: Sealer, body: JsonObject, *, tenant: str, model: str) -> Mapping[str, Json] | None:
    payload = sealer.unseal(
        cast("str", body["encrypted_content"]), purpose=_purpose(cast("str", body["type"]), tenant, model)
    )
    return payload if isinstance(payload, Mapping) else None


def _unverified(body: JsonObject, *, param: str) -> InvalidRequest:
    message = (
        f"The encrypted content of the {body['type']} item could not be verified. Send it back as it "
        "was given, to the model that made it, "
        "as the user that it was given to. If that was done, another gateway has made it, which does "
        "not share this one's secret "
        "(state.sealing_key_env): ask its operator."
    )
    return InvalidRequest(message, param=param, code="invalid_encrypted_content")


def _purpose(kind: str, tenant: str, model: str) -> str:
    # Reasoning is a model's own; a summary may be read by any model that the conversation goes on with.
    return "\0".join((kind, tenant, model if kind == "reasoning" else ""))
