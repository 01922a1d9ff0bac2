"""Errors on the wire: the one table from the core's error tree to a status, an OpenAI error type and a code.

Routes never build an error answer: they raise an error of `regate_orchestrator.errors`, and the error
boundary (`middleware.py`) or, inside a stream, the route itself asks `describe`. Unknown exceptions say
nothing of themselves.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from regate_orchestrator.errors import (
    BudgetSpent,
    CallerError,
    ConfigurationError,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    NotPermitted,
    RegateError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UpstreamError,
)
from regate_orchestrator.values import JsonObject

_log = logging.getLogger("regate.errors")

Headers = list[tuple[bytes, bytes]]


class MethodNotAllowed(CallerError):
    """The path is served, but not with this method. `allowed` lists those that are."""

    code = "method_not_allowed"

    def __init__(self, message: str, *, allowed: Sequence[str]) -> None:
        super().__init__(message)
        self.allowed = tuple(allowed)


class Conflict(CallerError):
    """The request cannot be carried out as things are now. `retry_after` is in seconds, None where
    trying again does not help.
    """

    def __init__(self, message: str, *, code: str, retry_after: float | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


class Unprocessable(CallerError):
    """The request is well-formed, and contradicts an earlier one."""


_CALLER: Final[tuple[tuple[type[CallerError], int, str], ...]] = (
    (Unauthenticated, 401, "authentication_error"),
    (NotPermitted, 403, "permission_error"),
    (NotFound, 404, "invalid_request_error"),
    (MethodNotAllowed, 405, "invalid_request_error"),
    (Conflict, 409, "invalid_request_error"),
    (TooLarge, 413, "invalid_request_error"),
    (Unprocessable, 422, "invalid_request_error"),
    (BudgetSpent, 429, "insufficient_quota"),
    (LimitExceeded, 429, "rate_limit_error"),
    (InvalidRequest, 400, "invalid_request_error"),
)
"""The caller's errors. The first class that fits decides."""

_UNAVAILABLE_RETRY_SECONDS: Final = 5
_INTERNAL: Final = (
    "The server had an error while processing the request. Quote the request id when you report it."
)


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An error as the caller sees it."""

    status: int
    type: str
    code: str | None
    message: str
    param: str | None = None
    retry_after: int | None = None

    def body(self) -> JsonObject:
        """Return the OpenAI envelope."""
        message = self.message.encode(
            "utf-8", "replace"
        ).decode()  # a lone surrogate in it must not cost the answer
        return {"error": {"message": message, "type": self.type, "param": self.param, "code": self.code}}


def describe(error: BaseException) -> ErrorAnswer:
    """Return what the caller is told of this error. Never holds a detail that was not written for callers."""
    error = leading(error)
    match error:
        case CallerError():
            status, kind = next(
                ((status, kind) for cls, status, kind in _CALLER if isinstance(error, cls)),
                (400, "invalid_request_error"),
            )
            wait = error.retry_after if isinstance(error, LimitExceeded | Conflict) else None
            retry = None if wait is None else _seconds(wait)
            return ErrorAnswer(status, kind, error.code, error.message, error.param, retry)
        case Unavailable():
            return ErrorAnswer(
                503, "server_error", error.code, error.message, retry_after=_UNAVAILABLE_RETRY_SECONDS
            )
        case UpstreamError():
            return ErrorAnswer(
                error.status,
                _type_of(error.status),
                error.code,
                error.message,
                retry_after=_given(error.retry_after),
            )
        case _:
            return ErrorAnswer(500, "server_error", None, _INTERNAL)


def envelope(error: BaseException) -> tuple[int, Headers, bytes]:
    """Return the status, headers and body with which a request that failed so must be answered. Logs
    nothing; see `log_error`.
    """
    error = leading(error)
    answer = describe(error)
    body = orjson.dumps(answer.body())
    headers: Headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if answer.retry_after is not None:
        headers.append((b"retry-after", str(answer.retry_after).encode()))
    if isinstance(error, BudgetSpent):  # OpenAI's clients would try again all the same
        headers.append((b"x-should-retry", b"false"))
    if answer.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="regate"'))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.allowed).encode()))
    return answer.status, headers, body


def log_error(error: BaseException, *, request_id: str) -> None:
    """Log what the operator must know: details of failing dependencies, and the trace of what should not
    happen.

    Callers' errors are not logged, and none is a second time.
    """
    error = leading(error)
    match error:
        case CallerError() | RegateError(is_logged=True):
            return
        case Unavailable() | UpstreamError():
            _log.warning(
                "%s: %s", error.code, error.detail or error.message, extra={"request_id": request_id}
            )
        case ConfigurationError() | RegateError():
            _log.error("%s: %s", type(error).__name__, error.message, extra={"request_id": request_id})
        case _:
            _log.error(
                "unforeseen %s", type(error).__name__, exc_info=error, extra={"request_id": request_id}
            )


def leading(error: BaseException) -> BaseException:
    """Return the error that a group of errors comes down to: an unforeseen one if there is any, else
    the first.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    found = [leading(inner) for inner in error.exceptions]
    return next((inner for inner in found if not isinstance(inner, RegateError)), found[0])


def _type_of(status: int) -> str:
    match status:
        case 401:
            return "authentication_error"
        case 403:
            return "permission_error"
        case 429:
            return "rate_limit_error"
        case _ if status >= 500:
            return "server_error"
        case _:
            return "invalid_request_error"


def _seconds(value: float) -> int:
    return max(1, math.ceil(value)) if math.isfinite(value) else 3_600


def _given(value: str | None) -> int | None:
    """A backend's own `Retry-After`, when it is a plain number of seconds; its words are never passed on."""
    return (
        min(int(value), 86_400)
        if value is not None and value.isascii() and value.isdigit() and len(value) <= 9
        else None
    )
