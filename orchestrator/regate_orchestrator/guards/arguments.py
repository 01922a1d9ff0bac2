"""The arguments of tool calls that guards look at: whole, and JSON afterwards as before."""

from __future__ import annotations

from collections.abc import Sequence

from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.guards.checked import Checked
from regate_orchestrator.guards.checking import Guards
from regate_orchestrator.guards.places import is_json
from regate_orchestrator.values import JsonObject


def tool_about(kind: str, name: str, server_label: str = "") -> JsonObject:
    """Return what policies are told of the tool whose arguments, or result, are checked."""
    return {"tool": {"type": kind, "name": name, "server_label": server_label}}


async def check_arguments(
    guards: Guards, context: Context, arguments: Sequence[str], *, about: Sequence[JsonObject]
) -> list[str | None]:
    """Return what may go further of the arguments of each call; None for those that are blocked.

    What would not be JSON any more once something is taken out is blocked.
    """
    checked = await guards.check(context, "tool_arguments", arguments, about=about)
    return [_left(one, text) for one, text in zip(checked, arguments, strict=True)]


def _left(checked: Checked, arguments: str) -> str | None:
    if checked.is_blocked:
        return None
    left = checked.of(arguments)
    return None if left != arguments and is_json(arguments) and not is_json(left) else left
