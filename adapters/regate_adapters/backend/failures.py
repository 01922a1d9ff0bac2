"""Failures of an upstream, as the one error the core knows. Not the events of a broken stream: those are
`chat.py`'s.

The messages are ours, word for word. What the upstream said goes into `detail`, for the log, cut short and
without the key we sent.
"""

from __future__ import annotations

import re
from typing import Final

from regate_adapters.http_client.errors import HttpFailure, NotConnected, NotConnectedInTime
from regate_adapters.overflow import says_too_long
from regate_orchestrator.errors import UpstreamError

MAX_DETAIL: Final = 2_048
_RETRY_AFTER: Final = re.compile(r"[0-9]{1,6}|[A-Za-z]{3}, [0-9]{2} [A-Za-z]{3} [0-9]{4} [0-9:]{8} GMT")
_REFUSED: Final = frozenset({400, 404, 405, 406, 409, 410, 411, 413, 414, 415, 422, 431, 501})
"""Statuses by which an upstream says that the request itself, as we sent it, is at fault."""

DENIED: Final = frozenset({401, 403})
"""Statuses by which an upstream says that the gateway's key is none, or not for this."""

TRANSPORT_ERRORS: Final = (HttpFailure, TimeoutError, OSError)
"""All that an exchange raises, cancellation aside."""


class Unsent(UpstreamError):
    """No connection came about: certainly nothing was sent, so another upstream may be asked instead."""


def refused(
    upstream: str, status: int, *, retry_after: str | None, text: str, shown: str = ""
) -> UpstreamError:
    """Return the error for an answer that is not 2xx; `shown` is what of its words the caller may see.

    The gateway's own credentials being refused is the operator's matter, hence 502.
    """
    detail = f"{upstream} answered {status}: {text}"[:MAX_DETAIL]
    if status != 429 and says_too_long(text, prose=status in _REFUSED):
        return too_long(detail)
    error = of_status(status, retry_after=retry_after, detail=detail)
    if shown and error.status == 400:
        error.message = f"The backend refused the request: {shown}"
    return error


def of_status(status: int, *, retry_after: str | None, detail: str) -> UpstreamError:
    """Return the error that a status stands for, whatever else the answer says."""
    if status == 429:
        given = retry_after if retry_after is not None and _RETRY_AFTER.fullmatch(retry_after) else None
        message = "The backend takes no more requests at present. Try again later."
        return UpstreamError(
            message, status=429, code="rate_limit_exceeded", retry_after=given, detail=detail
        )
    if status in _REFUSED:
        message = (
            "The backend refused the request. The gateway's log says why, under the id in the answer's "
            "header 'x-request-id'."
        )
        return UpstreamError(message, status=400, detail=detail)
    if status in DENIED:
        return UpstreamError(
            "The backend did not accept the gateway's credentials. Tell the operator.", detail=detail
        )
    if status == 408:
        return UpstreamError("The backend did not answer in time.", status=504, detail=detail)
    return UpstreamError("The backend failed to answer.", detail=detail)


def too_long(detail: str) -> UpstreamError:
    """Return the error for a request that is longer than the model's context: the caller's to mend,
    whatever status the upstream gave it.
    """
    message = (
        "The request is longer than the model's context window. Shorten the input, or ask for fewer output "
        "tokens."
    )
    return UpstreamError(message, status=400, code="context_length_exceeded", detail=detail)


def unreached(upstream: str, error: BaseException) -> UpstreamError:
    """Return the error for a connection that failed, broke or fell silent."""
    cause = str(error) or "no answer in time"  # a deadline of asyncio's has no words
    detail = f"{upstream}: {type(error).__name__}: {cause}"[:MAX_DETAIL]
    if isinstance(error, NotConnectedInTime):
        return Unsent("The backend did not answer in time.", status=504, detail=detail)
    if isinstance(error, TimeoutError):
        return UpstreamError("The backend did not answer in time.", status=504, detail=detail)
    if isinstance(error, NotConnected):
        return Unsent("The backend cannot be reached.", detail=detail)
    return UpstreamError("The connection to the backend broke off.", detail=detail)


def circuit_open(upstream: str, retry_after: str) -> Unsent:
    """Return the error for a request that was not sent because the upstream could not be reached just
    before.
    """
    detail = f"{upstream}: not asked, as its latest connections did not come about"
    return Unsent("The backend cannot be reached.", retry_after=retry_after, detail=detail)


def misunderstood(upstream: str, reason: str) -> UpstreamError:
    """Return the error for an answer that does not follow the protocol."""
    return UpstreamError(
        "The backend's answer was not understood.", detail=f"{upstream}: {reason}"[:MAX_DETAIL]
    )
