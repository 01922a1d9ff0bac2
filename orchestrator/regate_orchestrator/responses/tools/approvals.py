"""Approvals of calls, which the client gives in a later request: the items that ask for them and answer.

A request is found by its id in the state store, is bound to its caller, its tool and the arguments that were
shown, is used once, and expires. What a client sends of it is compared with that, never believed.
"""

from __future__ import annotations

import hashlib
import json
from typing import Final, cast

from regate_orchestrator.responses.tools.tool import ToolCall
from regate_orchestrator.responses.tools.wire import wire_name
from regate_orchestrator.values import JsonObject

REQUEST: Final = "mcp_approval_request"
RESPONSE: Final = "mcp_approval_response"
PREFIX: Final = "mcp__"
"""What the names of all tools of servers begin with, and of no other tool."""
SECONDS: Final = 24 * 3600
"""How long a request can be answered."""


def approval_request(call: ToolCall) -> JsonObject:
    """Return the item that asks the client to approve a call."""
    item = call.item("in_progress")
    return {
        "id": call.approval,
        "type": REQUEST,
        "server_label": item["server_label"],
        "name": item["name"],
        "arguments": item["arguments"],
    }


def approval_id(item: JsonObject) -> str:
    """Return the id of the approval that an item asks for, whoever sent the item."""
    return cast("str", item.get("approval_request_id") or item["id"])


def called_name(server_label: str, name: str) -> str:
    """Return the name by which a model calls a tool of a server: no other tool has it, as no label holds two
    underscores in a row, or ends with one.
    """
    return wire_name(name, f"{PREFIX}{server_label}")


def shown_digest(item: JsonObject) -> str:
    """Return what tells the call that an item shows from others: its server, its tool, and its arguments."""
    called = [item["server_label"], item["name"], arguments_digest(cast("str", item["arguments"]))]
    return hashlib.sha256(json.dumps(called).encode("utf-8", "surrogatepass")).hexdigest()


def arguments_digest(written: str) -> str:
    """Return what tells these arguments from others. Spaces and the order of members tell nothing."""
    try:
        text = json.dumps(json.loads(written or "{}"), sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError):  # the latter for what is nested too deep
        text = written
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
