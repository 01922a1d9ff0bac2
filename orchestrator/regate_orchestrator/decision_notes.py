"""How decisions are written down, and how a batch of them is read. The counterpart is `enforcer.py`, which asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar, cast

from regate_orchestrator.decisions import Allow, Decision, Deny, Question
from regate_orchestrator.errors import PolicyUnavailable
from regate_orchestrator.values import Json, JsonObject, mint

if TYPE_CHECKING:
    from regate_orchestrator.enforcer import Admitted, Batch

Member = TypeVar("Member", str, int)


def decision_entry(question: Question, decision: Decision) -> JsonObject:
    """Return a decision as records hold it: with the resource it was asked about, so that it can be asked again of another policy."""
    entry: dict[str, Json] = {
        "id": mint("dec_"),
        "point": question.point.short,
        "rule": question.point.value,
        "action": question.action,
        "about": question.about,
        "resource": question.resource,
    }
    match decision:
        case Allow(_, qualities):
            return entry | {"allowed": True} | ({"qualities": dict(qualities)} if qualities or question.qualified_by else {})
        case Deny(_, reasons):
            return entry | {"allowed": False, "reasons": list(reasons)}


def batch_entry(batch: Batch, admitted: Admitted) -> JsonObject:
    """Return a batch as records hold it: what was asked, and what of it was admitted."""
    asked = batch.as_input()
    allowed: dict[str, list[Json]] = {
        "stores": [*sorted(admitted.stores)],
        "chunks": [*sorted(admitted.chunks)],
        "items": [*sorted(admitted.items)],
        "tool_results": [*sorted(admitted.tool_results)],
        "models": [*sorted(admitted.models)],
    }
    return {name: {"asked": asked[name], "admitted": admitted_members} for name, admitted_members in allowed.items() if asked[name]}


def admitted_members(value: Mapping[str, Json], name: str, known: set[Member]) -> frozenset[Member]:
    """Return one kind of what a batch admits; raises `PolicyUnavailable` unless it is a set of what was asked."""
    listed = value.get(name)
    if not isinstance(listed, list | tuple) or any(type(member) not in (int, str) or member not in known for member in listed):
        raise PolicyUnavailable(f"regate/lib/batch/admitted.{name} is not a set of what was asked")
    return frozenset(cast("list[Member]", listed))
