"""The policy engine, as the core needs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from regate_orchestrator.filters.expression import FilterPlan
from regate_orchestrator.values import Json, JsonObject


@dataclass(frozen=True, slots=True)
class Answer:
    """What OPA said. `defined` is False for an undefined rule, in which case `value` is None and means
    nothing.

    `made_for` is the input's `now` that it was asked with, where that is not the one of now: the answer is
    remembered from an earlier request.
    """

    defined: bool
    value: Json
    revision: str
    made_for: int | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """A filter plan and the policy revision that it was made under.

    `made_for` is the input's `now` that it was made with, where that is not the one it was asked for: the
    plan was made for an earlier request.
    """

    plan: FilterPlan
    revision: str
    made_for: int | None = None
    is_remembered: bool = field(default=False, compare=False)
    """Whether it comes from memory, rather than from OPA now."""


Recall: TypeAlias = Callable[[str], Answer | None]
"""Returns what is remembered of a rule's answer; None where it must be asked."""


class DecisionMemory(Protocol):
    """What remembers answers for a short while: of identity, route and quota, and of nothing else (I10)."""

    def of(self, document: JsonObject) -> Recall | None:
        """Return what recalls answers to this input, all of one revision; None where nothing may be
        remembered of it. What it returns must be used before anything else is awaited.
        """
        ...


class PolicyEngine(Protocol):
    """OPA. Knows nothing of decisions: the enforcer alone reads an answer as an allow."""

    async def ask(self, rule: str, document: JsonObject) -> Answer:
        """Return the value of the rule at this path below `data` for this input, evaluated with strict
        builtin errors.

        Must raise `PolicyUnavailable` for everything but HTTP 200 with a well-formed body, and when the
        deadline passes. Must not retry.
        """
        ...

    async def plan(self, rule: str, document: JsonObject, *, unknown: str) -> Planned:
        """Return for which rows `data.<rule>` is true, with `input.<unknown>` being the row.

        Must raise `FilterNotExpressible` when the residual is not understood exactly (with rule, line and
        reason in its detail), and `PolicyUnavailable` as `ask` does. Must never widen.
        """
        ...

    async def revision(self) -> str:
        """Return the revision of the active policy. Must raise `PolicyUnavailable` when no policy is
        active.
        """
        ...
