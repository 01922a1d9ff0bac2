"""What a policy's answer at a point comes to: a permission, a refusal, or nothing that is understood."""

from __future__ import annotations

from regate_orchestrator.authz.guard_actions import ACTIONS, rules_beside
from regate_orchestrator.authz.limits import read_limits
from regate_orchestrator.authz.points import Point
from regate_orchestrator.values import Json


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


def texts(value: Json) -> tuple[str, ...]:
    """Return the texts among a rule's values: reasons, whose shape must never fail a decision."""
    return tuple(text for text in value if isinstance(text, str)) if isinstance(value, list | tuple) else ()


def is_value(point: Point, value: Json) -> bool:
    """Return whether the answer at a point that is no yes or no has the shape that is asked for."""
    return value in ACTIONS if point is Point.GUARD else permits(point, value)


def qualifying_rules(point: Point, value: Json) -> tuple[str, ...]:
    """Return the names of the rules to ask after a permission that is no yes or no."""
    return rules_beside(value) if point is Point.GUARD else ()
