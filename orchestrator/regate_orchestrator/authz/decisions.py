"""Decisions: what is asked of the policy, and what came back. `enforcer.py` asks; a refusal is a
value, never an exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from regate_orchestrator.authz.points import Point
from regate_orchestrator.principal import Context
from regate_orchestrator.values import Json, JsonObject

__all__ = ["Allow", "Context", "Decision", "Deny", "Point", "Question"]


@dataclass(frozen=True, slots=True)
class Question:
    """One decision to make. `resource` holds the point's own input keys, metadata only: no text,
    prompt or token ever goes to OPA (I11).
    """

    point: Point
    action: str
    resource: JsonObject
    about: str = ""
    """The identifier of the thing decided about, for the audit record."""
    companions: tuple[str, ...] = ()
    """Rules of the point's package that say how an allow is to be carried out (`backend`, …); asked
    beside the decision, never after it.
    """

    recorded: JsonObject | None = None
    """The resource as records hold it, where they must not hold all of it."""

    @property
    def companion_rules(self) -> list[str]:
        """Return the paths of the rules that qualify an allow."""
        return [f"{self.point.package}/{name}" for name in self.companions]


@dataclass(frozen=True, slots=True)
class Allow:
    """The rule evaluated to exactly `true` under this policy revision."""

    revision: str
    decision_attributes: Mapping[str, Json] = field(default_factory=dict)
    """What the rules that qualify it say, under the same revision; one that is undefined is not there."""
    made_for: int | None = None
    """The time for which it was made, where it is remembered from an earlier request."""


@dataclass(frozen=True, slots=True)
class Deny:
    """The rule did not evaluate to `true`. Reasons are for the audit record and for callers who may
    know of the thing, never for others.
    """

    revision: str
    reasons: tuple[str, ...] = field(default=())
    made_for: int | None = None
    """As of `Allow`."""


Decision: TypeAlias = Allow | Deny
