"""Storage: how much a caller may have stored of responses, conversations and prompts, as
`regate.quota.storage` says. Files: `documents/limits.py`.

Room is looked for before anything is made. What is about to be stored counts from that moment until it is
stored, so of several requests at once that are too much together, those that came too late are refused;
gateways that share a database know only their own, and of each other's what was stored a few seconds ago.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.errors import NotPermitted, PolicyUnavailable
from regate_orchestrator.ports import StoredBytesState
from regate_orchestrator.principal import Principal
from regate_orchestrator.values import Clock, Json, JsonObject

RULE: Final = "regate/quota/storage"
ACTION: Final = "quota.storage"


_COUNTED_SECONDS: Final = 5.0
_MAX_COUNTED: Final = 10_000


@dataclass(slots=True)
class _Counted:
    """What a principal has stored, with what this gateway stored for it since it was added up."""

    bytes: int
    until: float


@dataclass(frozen=True, slots=True)
class StorageLimits:
    """What one principal may have stored. 0 is nothing at all."""

    max_bytes: int


def read_storage_limits(value: Json) -> StorageLimits:
    """Return the limits. Raises `PolicyUnavailable` for anything but exactly one whole number."""
    if isinstance(value, Mapping) and set(value) == {"max_bytes"}:
        number = value["max_bytes"]
        if type(number) is int and number >= 0:
            return StorageLimits(number)
    raise PolicyUnavailable(f"{RULE} is not an object of one whole number, max_bytes")


def stored_size(value: Json) -> int:
    """Return about how many bytes the value takes when it is stored."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"))


class Storage:
    """Keeps what callers store within the limits that they are granted."""

    def __init__(
        self, enforcer: Enforcer, stored_bytes: StoredBytesState, *, clock: Clock = time.monotonic
    ) -> None:
        self._enforcer = enforcer
        self._stored_bytes = stored_bytes
        self._clock = clock
        self._coming: Counter[tuple[str, str]] = Counter()
        self._counted: dict[tuple[str, str], _Counted] = {}

    @property
    def held(self) -> int:
        """Return of how many callers a sum is remembered."""
        return len(self._counted)

    @asynccontextmanager
    async def room(self, context: Context, request: JsonObject, *, size: int) -> AsyncIterator[None]:
        """Hold room for so many bytes until they are stored. `request` is the input's key of that
        name. Raises `NotPermitted` for none.
        """
        who = (context.principal.tenant, context.principal.id)
        self._coming[who] += size
        try:
            value = await self._enforcer.value(context, RULE, ACTION, {"request": request})
            if value is None:
                raise NotPermitted("The policy does not permit you to have anything stored.")
            most = read_storage_limits(value).max_bytes
            await self._require_room(context.principal, who, most)
            yield
            if (counted := self._counted.get(who)) is not None:
                counted.bytes += size
        finally:
            self._coming[who] -= size
            if not self._coming[who]:
                del self._coming[who]

    async def _require_room(self, principal: Principal, who: tuple[str, str], most: int) -> None:
        """Raise `NotPermitted` where what is stored, and what is coming, is more than this. Adding up takes
        the longer the more is stored, so a sum is used for a few seconds; nobody is refused by an old one.
        """
        counted = self._counted.get(who)
        if counted is None or self._clock() >= counted.until or counted.bytes + self._coming[who] > most:
            until = self._clock() + _COUNTED_SECONDS
            counted = _Counted(await self._stored_bytes.of(principal), until)
            self._counted.pop(who, None)  # so that the oldest sum comes first
            self._forget_old()
            self._counted[who] = counted
        if counted.bytes + self._coming[who] > most:
            raise _exhausted(most)

    def _forget_old(self) -> None:
        """Forget the sums that are out of date, and the oldest where there are too many."""
        now = self._clock()
        while self._counted:
            oldest = next(iter(self._counted))
            if now < self._counted[oldest].until and len(self._counted) < _MAX_COUNTED:
                return
            del self._counted[oldest]


def _exhausted(most: int) -> NotPermitted:
    """Return the refusal. Not 429: clients would send the request again and again."""
    return NotPermitted(
        f"You may have {most} bytes of responses, conversations and prompts stored in all (max_bytes): "
        "delete some first, "
        "or send a response with 'store': false.",
        code="storage_limit_exceeded",
    )
