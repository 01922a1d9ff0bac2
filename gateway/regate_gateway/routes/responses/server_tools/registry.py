"""The kinds of tools that run here, by the types by which requests name them."""

from __future__ import annotations

from typing import Final

from regate_gateway.routes.responses.server_tools.code_interpreter import REGISTRATION as CODE_INTERPRETER
from regate_gateway.routes.responses.server_tools.file_search import REGISTRATION as FILE_SEARCH
from regate_gateway.routes.responses.server_tools.image_generation import REGISTRATION as IMAGE_GENERATION
from regate_gateway.routes.responses.server_tools.mcp import REGISTRATION as MCP
from regate_gateway.routes.responses.server_tools.registration import Registration
from regate_gateway.routes.responses.server_tools.web_search import REGISTRATION as WEB_SEARCH
from regate_orchestrator.responses.tools.kinds.table import KINDS

REGISTERED: Final[dict[str, Registration]] = {}
ITEMS: Final[dict[str, Registration]] = {}
"""By the types of their items."""


def register(registration: Registration) -> None:
    """Make a kind known: from now on requests may name it, and its items are told, stored, decided again and
    withheld as those of all kinds.
    """
    KINDS[registration.kind.item_type] = registration.kind
    ITEMS[registration.kind.item_type] = registration
    for name in registration.names:
        REGISTERED[name] = registration


for _registration in (FILE_SEARCH, MCP, WEB_SEARCH, CODE_INTERPRETER, IMAGE_GENERATION):
    register(_registration)
