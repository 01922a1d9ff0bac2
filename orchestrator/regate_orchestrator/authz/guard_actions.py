"""What becomes of a text that guards looked at, as a policy says it in `regate.guard.action`: one of four
words, and nothing else.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, cast, get_args

from regate_orchestrator.authz.decisions import Allow, Decision
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
