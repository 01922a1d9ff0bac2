"""The refusals of a turn for what it continues from or refers to: one wording for absent, foreign, and no
longer permitted alike.
"""

from __future__ import annotations

from regate_orchestrator.errors import InvalidRequest, NotFound, NotPermitted


def withheld_refused(*, param: str | None = None) -> NotPermitted:
    """Return the refusal of a turn of whose context something is withheld, where the policy wants none
    of the rest used.
    """
    message = (
        "The policy does not permit continuing this conversation: part of it is no longer available to you."
    )
    return NotPermitted(message, param=param)


def no_previous(response: str) -> InvalidRequest:
    """Return the one error for a response that cannot be continued from: absent, foreign, and no
    longer permitted alike.
    """
    message = f"Previous response with id '{response}' not found."
    return InvalidRequest(message, param="previous_response_id", code="previous_response_not_found")


def no_item(identifier: str, *, param: str = "input") -> NotFound:
    """Return the one error for an item that cannot be referred to: absent, foreign, and no longer
    permitted alike.
    """
    return NotFound(f"Item with id '{identifier}' not found.", param=param, code="not_found")
