"""What is compared of two answers: whether they allow, admit, stamp or plan the same. `shadowing.py` asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from regate_orchestrator.authz.batches import BATCH_RULE
from regate_orchestrator.authz.document_decisions import DOCUMENTS_RULE
from regate_orchestrator.authz.plan_records import describe
from regate_orchestrator.errors import PolicyUnavailable
from regate_orchestrator.filters.expression import FilterPlan
from regate_orchestrator.ports import Answer
from regate_orchestrator.values import Json, JsonObject

Outcome: TypeAlias = Literal["same", "would_allow", "would_deny", "differs", "error", "dropped"]


def is_allow(answer: Answer) -> bool:
    """Return whether the answer is exactly `true`."""
    return answer.defined and answer.value is True


def outcome_of(*, was: bool, now: bool) -> Outcome:
    """Return what the candidate would change."""
    if was == now:
        return "same"
    return "would_allow" if now else "would_deny"


def admitted_by(value: Json) -> frozenset[tuple[str, str | int]]:
    """Return what a batch admits: chunks by their ids, all else by its place."""
    if not isinstance(value, Mapping):
        raise PolicyUnavailable(f"{BATCH_RULE} is not an object")
    return frozenset(
        (name, member)
        for name, members in value.items()
        if isinstance(members, list | tuple)
        for member in members
        if isinstance(member, str | int)
    )


def stamps_by(value: Json) -> tuple[frozenset[Json], Mapping[str, Json]]:
    """Return which files may be read, by position, and the stamps of what may be ingested."""
    readable, stamps = (
        (value.get("readable"), value.get("stamps")) if isinstance(value, Mapping) else (None, None)
    )
    if not isinstance(readable, list | tuple) or not isinstance(stamps, Mapping):
        raise PolicyUnavailable(f"{DOCUMENTS_RULE} is not what was asked for")
    return frozenset(readable), stamps


def identifier_of(document: JsonObject) -> str:
    """Return the id of the row that the question is about, if it is about one."""
    for name in ("chunk", "item", "file", "prompt", "store"):
        row = document.get(name)
        if isinstance(row, Mapping) and isinstance(row.get("id"), str):
            return f"{name}/{row['id']}"
    return ""


def plan_text(plan: FilterPlan) -> str:
    """Return the plan as a report names it."""
    described = describe(plan)
    return (
        f"{described['kind']} (size {described['size']})" if "size" in described else str(described["kind"])
    )


def texts_in(value: Json) -> tuple[str, ...]:
    """Return the texts of a list; of anything else there are none."""
    return tuple(text for text in value if isinstance(text, str)) if isinstance(value, list | tuple) else ()
