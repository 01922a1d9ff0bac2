"""An upstream's own words about what it refuses, fit to be shown: one sentence or two, without
addresses, paths and what may be a secret. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

import orjson

_MOST: Final = 500
_READ: Final = 1_000
"""Of more characters the rest is not looked at, so it is not shown: looking takes time with their square."""
_HIDDEN: Final = "…"
_UNFIT: Final = re.compile(
    r"[a-z][a-z0-9+.-]*://[^\s\"'<>)\]]+"  # addresses with a scheme
    r"|\b(?:\d{1,3}\.){3}\d{1,3}(?::\d{1,5})?(?:/[^\s\"']*)?"  # IPv4
    r"|\[?\b(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}\b\]?(?::\d{1,5})?"  # IPv6
    r"|\b(?:[a-z0-9-]+\.)+(?:internal|local|lan|svc|cluster|corp|intra|home|test|com|net|org|io|ai|dev"
    r"|cloud|example)\b(?::\d{1,5})?(?:/[^\s\"']*)?"
    r"|\b(?:localhost|[a-z0-9-]+):\d{2,5}\b(?:/[^\s\"']*)?"  # a host with its port
    r"|(?<![\w/])(?:/[\w.@+-]+){2,}/?|\b[a-z]:\\[^\s\"']+"  # paths of files
    r"|\bbearer\s+\S+|\bbasic\s+\S{8,}|\b(?:api[-_ ]?key|token|password|secret"
    r"|authorization)\b[\"']?\s*[:=]\s*[\"']?[^\s\"',}]+"
    r"|\b(?:sk|pk|rk|hf|gsk|ghp|xai|key|akia|eyj)[-_]?[a-z0-9_.-]{12,}"  # keys and tokens by their beginnings
    # Whatever is long and has both letters and digits
    r"|\b(?=[a-z_-]*\d)(?=[\d_-]*[a-z])[a-z0-9_+-]{24,}\b",
    re.IGNORECASE,
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]+")


def shown_words(answer: str) -> str:
    """Return what an error answer says of itself, cut short and without what is not for callers;
    nothing where it says nothing in JSON.
    """
    try:
        document = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return ""
    words = "; ".join(dict.fromkeys(_CONTROL.sub(" ", said).strip() for said in _said(document)))
    # Half a secret does not look like one, so none is cut
    read = words if len(words) <= _READ else words[:_READ].rpartition(" ")[0]
    cleaned = _UNFIT.sub(_HIDDEN, read)
    is_whole = len(cleaned) <= _MOST and (read == words or not read)
    return cleaned if is_whole else cleaned[:_MOST] + _HIDDEN


def _said(document: object) -> Iterator[str]:
    """Yield the messages: OpenAI's envelope, a bare message, or FastAPI's list of faults with their
    places.
    """
    match document:
        case (
            {"error": str(message)}
            | {"error": {"message": str(message)}}
            | {"message": str(message)}
            | {"detail": str(message)}
        ):
            yield message
        case {"detail": [*faults]} | {"message": {"detail": [*faults]}} | {"error": {"message": [*faults]}}:
            for fault in faults[:3]:
                if isinstance(fault, Mapping) and isinstance(fault.get("msg"), str):
                    place = fault.get("loc")
                    where = (
                        ".".join(str(part) for part in place if part != "body")
                        if isinstance(place, list)
                        else ""
                    )
                    yield f"{where}: {fault['msg']}" if where else fault["msg"]
        case _:
            return
