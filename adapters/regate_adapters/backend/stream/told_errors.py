"""Errors that upstreams tell in an answer with a status of success: recognised, and made the one error that
the core knows. Pure.

Backends and the proxies before them do so in many shapes: a member `error` in place of the answer, beside it,
or inside a choice; an object that says of itself that it is an error; a bare message. What comes with another
status than success is `backend/failures.py`'s.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import orjson

from regate_adapters.backend.failures import MAX_DETAIL, of_status, too_long
from regate_adapters.overflow import says_too_long
from regate_orchestrator.errors import UpstreamError

_WORDS: Final = ("message", "detail", "msg")
_NUMBERED: Final = ("code", "status", "status_code", "http_code")
_STATUS: Final = re.compile("[45][0-9][0-9]")
_NAMED: Final = ("code", "type", "status", "error_type")
_MEANT: Final[Mapping[str, int]] = {
    **dict.fromkeys(
        (
            "ratelimit",
            "ratelimiterror",
            "ratelimitexceeded",
            "toomanyrequests",
            "insufficientquota",
            "resourceexhausted",
        ),
        429,
    ),
    **dict.fromkeys(
        (
            "badrequest",
            "badrequesterror",
            "invalidrequest",
            "invalidrequesterror",
            "invalidargument",
            "invalidprompt",
        ),
        400,
    ),
    **dict.fromkeys(
        ("validation", "validationerror", "unprocessableentity", "unprocessableentityerror", "notfounderror"),
        400,
    ),
    **dict.fromkeys(("timeout", "timeouterror", "deadlineexceeded"), 408),
}
"""The statuses that codes and types stand for, written in lower case with letters alone."""


def read_loosely(text: bytes) -> object:
    """Return the JSON value; None for what is none.

    What JSON does not have and some backends write all the same is let through: numbers that are none, line
    ends in texts, bytes that are no UTF-8. Halves of a character become the mark for a lost one.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    try:
        value = json.loads(text.decode("utf-8", "replace"), strict=False)
        if b"\\ud" in text.lower():
            value = json.loads(
                json.dumps(value, ensure_ascii=False)
                .encode("utf-16", "surrogatepass")
                .decode("utf-16", "replace")
            )
    except (ValueError, RecursionError):
        return None
    return value


def tells_error(answer: Mapping[str, object]) -> bool:
    """Return whether a JSON object that came with a status of success tells an error."""
    if answer.get("error") or "error" in (answer.get("object"), answer.get("type")):
        return True
    choices = answer.get("choices")
    if isinstance(choices, list) and choices:
        return any(isinstance(choice, dict) and choice.get("error") for choice in choices)
    return not answer.get("data") and any(isinstance(answer.get(name), str) for name in _WORDS)


def reported(upstream: str, answer: Mapping[str, object]) -> UpstreamError:
    """Return the error that the answer tells, as if it had come with the status that it stands for.
    The words are ours.
    """
    about = list(_about(answer))
    detail = f"{upstream} answered with an error: {json.dumps(answer)}"[:MAX_DETAIL]
    status = _status_within(about)
    if status != 429 and any(says_too_long(one, prose=True) for one in about):
        return too_long(detail)
    return of_status(status, retry_after=None, detail=detail)


def _about(answer: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """Yield the objects that say what the error is, the innermost first."""
    choices = answer.get("choices")
    for holder in [*(choices if isinstance(choices, list) else ()), answer]:
        inner = holder.get("error") if isinstance(holder, dict) else None
        if isinstance(inner, dict):
            yield inner
    yield answer


def _status_within(about: Sequence[Mapping[str, object]]) -> int:
    """Return the status by a number that is one, else by what a code or type is known to mean, else
    that of a failure.
    """
    numbers = [
        str(value) for one in about for name in _NUMBERED if isinstance(value := one.get(name), int | str)
    ]
    names = [
        re.sub("[^a-z]", "", value.lower())
        for one in about
        for name in _NAMED
        if isinstance(value := one.get(name), str)
    ]
    known = [int(text) for text in numbers if _STATUS.fullmatch(text)] + [
        _MEANT[name] for name in names if name in _MEANT
    ]
    return next(iter(known), 502)
