"""Attributes as clients send them, with files and stores: which are theirs, which are requests to the policy,
and which are refused.

Keys that start with `regate.` *request* a sharing label; they go to the ingest, file or store decision, which
alone says what is stamped (I5). Names that look like policy fields are refused, so that nobody thinks they do
something. All else belongs to the client.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.filters.attribute_keys import LONGEST, MAX_KEY, is_key, is_reserved, is_storable
from regate_orchestrator.filters.expression import Scalar
from regate_orchestrator.spelling import nearest
from regate_orchestrator.values import Json

_MOST: Final = 16
_PREFIX: Final = "regate."
_LISTS: Final = ("teams", "roles", "projects", "namespaces", "labels")
_VISIBILITIES: Final = ("private", "attributes", "tenant")


@dataclass(frozen=True, slots=True)
class SplitAttributes:
    """`own` are the client's; `requested` is what the policy is asked to stamp, holding only the keys
    that were sent.
    """

    own: Mapping[str, Scalar]
    requested: Mapping[str, Json]


def split_attributes(values: Mapping[str, object], *, param: str, for_store: bool = False) -> SplitAttributes:
    """Return the client's attributes and its sharing requests. Raises `InvalidRequest` for anything
    else (OpenAI, "attributes").
    """
    if len(values) > _MOST:
        raise InvalidRequest(f"'{param}' may have at most {_MOST} keys; it has {len(values)}.", param=param)
    own: dict[str, Scalar] = {}
    requested: dict[str, Json] = {}
    for key, value in values.items():
        place = f"{param}.{key}"
        if not is_key(key):
            raise InvalidRequest(
                f"Keys of '{param}' are texts of 1 to {MAX_KEY} characters, without NUL.", param=param
            )
        if not isinstance(value, str | int | float | bool):
            raise InvalidRequest(f"'{place}' must be a string, a number or a boolean.", param=place)
        if isinstance(value, str) and not (len(value) <= LONGEST and is_storable(value)):
            raise InvalidRequest(f"'{place}' must be at most {LONGEST} characters, without NUL.", param=place)
        if not isinstance(value, str | bool) and abs(value) > 2**53:
            raise InvalidRequest(f"'{place}' must be a number between -2^53 and 2^53.", param=place)
        if key.lower().startswith(_PREFIX):
            name = key[len(_PREFIX) :]
            requested[name] = _requested(name, value, place=place, for_store=for_store)
        elif is_reserved(key):
            raise InvalidRequest(
                f"'{place}' is a reserved name. To ask for sharing use keys such as 'regate.teams'.",
                param=place,
            )
        else:
            own[key] = value
    return SplitAttributes(own, requested)


def _requested(name: str, value: Scalar, *, place: str, for_store: bool) -> Json:
    if name in _LISTS:
        if not isinstance(value, str):
            raise InvalidRequest(f"'{place}' must be a string of names separated by commas.", param=place)
        return [part for part in (piece.strip() for piece in value.split(",")) if part]
    if name == "level":
        level = int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,6}", value) else value
        if isinstance(level, bool) or not isinstance(level, int) or level < 0:
            raise InvalidRequest(f"'{place}' must be a whole number, 0 or more.", param=place)
        return level
    if name == "visibility":
        if value not in _VISIBILITIES:
            raise InvalidRequest(f"'{place}' must be one of {', '.join(_VISIBILITIES)}.", param=place)
        return value
    if name == "share" and for_store:
        if value != "all_tenants":
            raise InvalidRequest(f"'{place}' can only be 'all_tenants'.", param=place)
        return value
    known = (*_LISTS, "level", "visibility", *(("share",) if for_store else ()))
    near = nearest(name, known)
    advice = f"There are: {', '.join(known)}." if near is None else f"Did you mean '{_PREFIX}{near}'?"
    raise InvalidRequest(
        f"'{place}' is not a sharing request that Regate knows. {advice}",
        param=place,
        code="unknown_parameter",
    )
