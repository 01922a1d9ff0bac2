"""`include`: the parts of items that a caller asks to see beside the usual ones, of a request's body
or of a query string alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from regate_orchestrator.errors import InvalidRequest

INCLUDABLE: Final = (
    "file_search_call.results",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
    "message.input_image.image_url",
)
"""The last is always there: a message is shown as it was sent."""

_VACUOUS: Final = (
    *("web_search_call.action.sources", "web_search_call.results"),
    *("code_interpreter_call.outputs", "computer_call_output.output.image_url"),
)
"""Parts of items that there are none of here; asking for them asks for nothing."""


def require_includable(names: Sequence[str]) -> None:
    """Raise `InvalidRequest` for the first that is no part of any item."""
    for index, name in enumerate(names):
        if name not in (*INCLUDABLE, *_VACUOUS):
            listed = ", ".join(f"'{one}'" for one in INCLUDABLE)
            raise InvalidRequest(
                f"'include[{index}]' must be one of {listed}.",
                param=f"include[{index}]",
                code="invalid_value",
            )
