"""The principal: who asks, and the context in which. Made from verified claims by `regate.authn.principal`,
and handed on as an argument everywhere.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

from regate_orchestrator.tracing.spans import REQUEST_ID, RESPONSE_ID, TraceSpan
from regate_orchestrator.values import Json, JsonObject, RequestId

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@|/+-]{0,127}")
_MAX_NAMES: Final = 10_000
_MAX_HELD: Final = 1_024


@dataclass(frozen=True)  # without slots: what is told of one again and again is made once
class Principal:
    """Who asks. `(tenant, id)` together name a person; neither is ever normalised, so `acme` and
    `ACME` are two tenants.
    """

    id: str
    tenant: str
    teams: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    clearance: int = 0
    attrs: Mapping[str, Json] = field(default_factory=dict)

    def as_input(self) -> JsonObject:
        """Return the principal as every policy input carries it: all keys present, lists possibly empty. It
        is the same object each time, and must not be changed.
        """
        return self._input

    @cached_property
    def _input(self) -> JsonObject:
        return {
            "id": self.id,
            "tenant": self.tenant,
            "teams": list(self.teams),
            "roles": list(self.roles),
            "projects": list(self.projects),
            "namespaces": list(self.namespaces),
            "scopes": list(self.scopes),
            "clearance": self.clearance,
            "attrs": dict(self.attrs),
        }

    @cached_property
    def digest(self) -> str:
        """Return a short stable digest for audit records, which name principals only so."""
        text = json.dumps(self.as_input(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Credential:
    """The caller's own verified token. It is held in memory only, and must never be logged, stored, recorded
    or asked about; it is for servers to which the operator has it forwarded or exchanged.
    """

    token: str = field(repr=False)
    audiences: frozenset[str]
    expires: float
    """When it is no longer valid, in epoch seconds."""


@dataclass(frozen=True, slots=True)
class Authentication:
    """How a caller was authenticated: by which provider, of which kind, with which credential. `credential`
    is the credential's id (`jti`), never a secret; None where it has none. `peer` is what the client's
    certificate says, whatever vouched for the caller; None where it presented none.
    """

    provider: str
    kind: str
    credential: str | None = None
    peer: JsonObject | None = field(default=None, repr=False)

    def as_input(self) -> JsonObject:
        """Return it as `regate.authn` sees it."""
        told: JsonObject = {
            "method": self.kind,
            "provider": {"name": self.provider, "kind": self.kind},
        }
        return told if self.peer is None else {**told, "peer": self.peer}

    def as_record(self) -> JsonObject:
        """Return it as audit records hold it."""
        told = {"provider": self.provider, "kind": self.kind}
        return told if self.credential is None else {**told, "credential": self.credential}


@dataclass(frozen=True, slots=True)
class Context:
    """On whose behalf, and as part of which request, something is decided. Passed as an argument,
    never ambient.
    """

    principal: Principal
    request_id: RequestId
    response_id: str | None = None
    credential: Credential | None = field(default=None, repr=False, compare=False)
    """None for whoever came without a token."""
    identified: int | None = None
    """The time for which the policy said who this is, where that is remembered from an earlier request."""
    authentication: Authentication | None = field(default=None, compare=False)
    """None for work that goes on without its request."""
    span: TraceSpan | None = field(default=None, repr=False, compare=False)
    """The span that what is done is told below; None where the request is not traced."""

    @property
    def ids(self) -> dict[str, str]:
        """Return by which ids what is done is found in the audit log, as attributes of a span."""
        known = {REQUEST_ID: str(self.request_id)}
        return known if self.response_id is None else {**known, RESPONSE_ID: self.response_id}

    def within(self, span: TraceSpan) -> Context:
        """Return the context in which what is done is told below this span."""
        return replace(self, span=span)


def read_credential(token: str, claims: Mapping[str, Json]) -> Credential | None:
    """Return the credential that a verified token is, or None for one that says neither for whom nor for how
    long.
    """
    audience, expires = claims.get("aud"), claims.get("exp")
    audiences = [audience] if isinstance(audience, str) else audience
    if not isinstance(audiences, list | tuple) or not isinstance(expires, int | float):
        return None
    return Credential(token, frozenset(one for one in audiences if isinstance(one, str)), float(expires))


def is_name(value: object) -> bool:
    """Return whether a value may serve as a tenant, subject, team, … : 1 to 128 plain ASCII
    characters, no blanks, no wildcards.
    """
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def read_principal(value: object) -> Principal | None:
    """Return the principal that a policy (or a stored job) describes, or `None` when any part of it
    has not exactly the right shape.
    """
    if not isinstance(value, Mapping):
        return None
    lists = [value.get(key, ()) for key in ("teams", "roles", "projects", "namespaces", "scopes")]
    if not (is_name(value.get("id")) and is_name(value.get("tenant"))):
        return None
    if not all(
        isinstance(names, list | tuple) and len(names) <= _MAX_NAMES and all(map(is_name, names))
        for names in lists
    ):
        return None
    clearance, attrs = value.get("clearance", 0), value.get("attrs", {})
    if isinstance(clearance, bool) or not isinstance(clearance, int) or not isinstance(attrs, Mapping):
        return None
    teams, roles, projects, namespaces, scopes = (tuple(names) for names in lists)
    return Principal(
        value["id"], value["tenant"], teams, roles, projects, namespaces, scopes, clearance, dict(attrs)
    )


class Principals:
    """Reads principals; a value that is read again, because it is remembered, gives the same principal."""

    def __init__(self) -> None:
        self._read: dict[int, tuple[object, Principal | None]] = {}
        """By the identity of the value, which is held so that no other can have it."""

    def read(self, value: object) -> Principal | None:
        """Return what `read_principal` does."""
        known = self._read.get(id(value))
        if known is None:
            if len(self._read) >= _MAX_HELD:
                self._read.clear()
            known = self._read[id(value)] = value, read_principal(value)
        return known[1]
