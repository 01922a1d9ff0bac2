"""What a caller asks to see of responses and items: the queries that read them, and `include`, which
names parts of items beside the usual ones, in a body and in a query alike.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, Field

from regate_gateway.http.misfits import misfit
from regate_gateway.http.models import RequestModel
from regate_gateway.routes.models import ListQuery
from regate_gateway.routes.responses.server_tools.registry import ITEMS

ENCRYPTED_REASONING: Final = "reasoning.encrypted_content"
LOGPROBS: Final = "message.output_text.logprobs"
_SENT: Final = ("message.input_image.image_url", "computer_call_output.output.image_url")
"""Images that are always there: what was sent is shown as it was sent."""
_VACUOUS: Final = ("web_search_call.results",)
"""Parts of items that there are none of here; asking for them asks for nothing."""


def includable() -> tuple[str, ...]:
    """Return the parts that responses here may have: those of tools that run here, and of others."""
    of_tools = (name for registration in ITEMS.values() for name in registration.includes)
    return (*of_tools, ENCRYPTED_REASONING, LOGPROBS, *_SENT)


def _require_includable(name: str) -> str:
    if name not in _VACUOUS and name not in (parts := includable()):
        listed = ", ".join(f"'{one}'" for one in parts)
        raise misfit(f"'{{place}}' must be one of {listed}.")
    return name


Included = Annotated[
    list[
        Annotated[
            str,
            Field(max_length=100, json_schema_extra={"enum": [*includable(), *_VACUOUS]}),
            AfterValidator(_require_includable),
        ]
    ],
    Field(max_length=20, description="Parts of items to show beside the usual ones."),
]
"""What `include` may say."""


class IncludeQuery(RequestModel):
    """What is to be seen of items."""

    include: Included = Field(default_factory=list)


class ItemsQuery(ListQuery):
    """Which items are listed, and what is to be seen of them."""

    include: Included = Field(default_factory=list)


class ReadQuery(IncludeQuery):
    """How a stored response is read."""

    stream: bool = Field(False, description="As the events of its stream.")
    starting_after: int = Field(
        -1, ge=-1, le=2**53, description="The number of the last event seen; with `stream` alone."
    )
    include_obfuscation: bool = Field(True, description="Pad the events, so that sizes tell less.")
