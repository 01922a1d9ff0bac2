"""Which tools the model may see: asked of the policy, whoever runs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.errors import PolicyUnavailable
from regate_orchestrator.values import Json, JsonObject


async def hidden_tools(
    enforcer: Enforcer, context: Context, offered: Mapping[str, JsonObject]
) -> frozenset[str]:
    """Return which of these tools, views by the names that a model calls them by, the policy does not let the
    model see.

    Raises `PolicyUnavailable` when it does not say which.
    """
    if not offered:
        return frozenset()
    tools: list[Json] = list(offered.values())
    visible = await enforcer.value(context, "regate/tool/visible", "tool.list", {"tools": tools})
    if not isinstance(visible, list | tuple):
        raise PolicyUnavailable("regate/tool/visible is not a set")
    shown = frozenset(name for name in visible if isinstance(name, str))
    return frozenset(name for name, view in offered.items() if policy_name(view) not in shown)


def policy_name(view: JsonObject) -> str:
    """Return the name by which policies and their data know a tool: below its server's label, if any."""
    label, name = cast("str", view["server_label"]), cast("str", view["name"])
    return f"{label}/{name}" if label else name
