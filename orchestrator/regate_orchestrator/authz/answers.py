"""What a policy's answer at a point comes to: a permission, a refusal, or nothing that is understood. Of the
guards' point it is one of four words, and nothing else.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, cast, get_args

from regate_orchestrator.authz.decisions import Allow, Decision
from regate_orchestrator.authz.limits import read_limits
from regate_orchestrator.authz.points import Point
from regate_orchestrator.ports import Answer
from regate_orchestrator.values import Json

GuardAction: TypeAlias = Literal["pass", "flag", "redact", "block"]
ACTIONS: Final[tuple[GuardAction, ...]] = get_args(GuardAction)
ACTION: Final = "action"
"""What an allow at the guards' point is qualified by: what the policy said."""
REDACT: Final = "redact"
_REASONS: Final = "deny_reasons"


def rules_beside(action: Json) -> tuple[str, ...]:
    """Return the rules that qualify an action which lets the text through, though not without a word."""
    match action:
        case "flag":
            return (_REASONS,)
        case "redact":
            return (_REASONS, REDACT)
        case _:
            return ()


def action_of(decision: Decision) -> GuardAction:
    """Return the action that was decided; `block` for every deny."""
    if isinstance(decision, Allow):
        return cast("GuardAction", decision.decision_attributes[ACTION])
    return "block"


def names_to_redact(decision: Decision) -> frozenset[str]:
    """Return the names whose spans are to be taken out."""
    said = decision.decision_attributes.get(REDACT) if isinstance(decision, Allow) else None
    return (
        frozenset(name for name in said if isinstance(name, str)) if isinstance(said, list) else frozenset()
    )


def permits(point: Point, value: Json) -> bool:
    """Return whether the answer is a permission: limits where limits are asked for, an action that lets
    something through where guards are, else exactly `true`.
    """
    match point:
        case Point.QUOTA:
            return read_limits(value) is not None
        case Point.GUARD:
            return value in ACTIONS and value != "block"
        case _:
            return value is True


def allows(point: Point, answer: Answer) -> bool:
    """Return whether the answer allows: it is defined, and a permission."""
    return answer.defined and permits(point, answer.value)


def is_misshapen(point: Point, answer: Answer) -> bool:
    """Return whether the answer at a point that is no yes or no has not the shape that is asked for: a fault
    of the policy, which sets nobody free.
    """
    return answer.defined and not point.is_yes_or_no and not is_value(point, answer.value)


def texts(value: Json) -> tuple[str, ...]:
    """Return the texts among a rule's values: reasons, whose shape must never fail a decision."""
    return tuple(text for text in value if isinstance(text, str)) if isinstance(value, list | tuple) else ()


def is_value(point: Point, value: Json) -> bool:
    """Return whether the answer at a point that is no yes or no has the shape that is asked for."""
    return value in ACTIONS if point is Point.GUARD else permits(point, value)


def qualifying_rules(point: Point, value: Json) -> tuple[str, ...]:
    """Return the names of the rules to ask after a permission that is no yes or no."""
    return rules_beside(value) if point is Point.GUARD else ()
