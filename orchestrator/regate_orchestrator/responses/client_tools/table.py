"""The kinds of tools that the client runs. A kind that is not in this table is unknown to prompts, histories,
guards and streams.
"""

from __future__ import annotations

from typing import Final

from regate_orchestrator.responses.client_tools.apply_patch import APPLY_PATCH
from regate_orchestrator.responses.client_tools.computer import COMPUTER
from regate_orchestrator.responses.client_tools.functions import CUSTOM, FUNCTION
from regate_orchestrator.responses.client_tools.kind import ClientKind
from regate_orchestrator.responses.client_tools.shell import LOCAL_SHELL, SHELL
from regate_orchestrator.responses.client_tools.tool_search import TOOL_SEARCH
from regate_orchestrator.values import JsonObject

_KINDS: Final = (FUNCTION, CUSTOM, COMPUTER, SHELL, LOCAL_SHELL, APPLY_PATCH, TOOL_SEARCH)
CALLS: Final[dict[str, ClientKind]] = {kind.item_type: kind for kind in _KINDS}
"""By the type of their calls' items: an output must follow each."""
OUTPUTS: Final[dict[str, ClientKind]] = {kind.output_type: kind for kind in _KINDS}
"""By the type of the items in which the client says what a call came to."""


def is_for_client(item: JsonObject) -> bool:
    """Return whether the item is a call that waits for the client, as not every search for tools does."""
    return item["type"] in CALLS and item.get("execution") != "server"
