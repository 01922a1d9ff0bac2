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

_KINDS: Final = (FUNCTION, CUSTOM, COMPUTER, SHELL, LOCAL_SHELL, APPLY_PATCH)
CALLS: Final[dict[str, ClientKind]] = {kind.item_type: kind for kind in _KINDS}
"""By the type of their calls' items: an output must follow each."""
OUTPUTS: Final[dict[str, ClientKind]] = {kind.output_type: kind for kind in _KINDS}
"""By the type of the items in which the client says what a call came to."""
