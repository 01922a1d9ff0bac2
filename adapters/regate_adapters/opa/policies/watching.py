"""When what lies where policies come from may be taken: once it has been still, since somebody may be in the
middle of writing it.

Policies are built while they settle, so that an edit is in force no later for it. Stillness cannot tell a
writer who has finished from one who pauses for longer; a list of digests or a signature can (`listing.py`,
`signed.py`), and what shows so that it is whole is taken at once. Not what becomes of what is found; that is
`opa/server/process.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from regate_adapters.opa.policies.listing import Fingerprint
from regate_adapters.opa.policies.origins import Candidate
from regate_adapters.opa.policies.source import BrokenPolicy, IncompletePolicy

_log = logging.getLogger("regate.opa")

POLL_SECONDS: Final = 0.25
_STILL_SECONDS: Final = 1.0
_PATIENCE_SECONDS: Final = 10.0
"""For how long policies must be still of which something is missing, or gone: a copy in progress looks
so, and may pause for a while.
"""
_SETTLE_SECONDS: Final = 30.0

Found: TypeAlias = Candidate | BrokenPolicy | OSError | None
"""What came of building the policies that are there; None for those in force already."""


class WatchedPolicies:
    """Policies that may be written at any time. `fingerprint` changes when they do, and `build` makes
    of them what may serve, or raises.
    """

    def __init__(self, fingerprint: Callable[[], Fingerprint], build: Callable[[], Candidate | None]) -> None:
        self._fingerprint = fingerprint
        self._build = build
        self._concluded: Fingerprint | None = None

    async def first(self) -> Candidate:
        """Return the policies that are there, once they are still. Raises `BrokenPolicy` for such as
        may not serve, or never are.
        """
        deadline = time.monotonic() + _SETTLE_SECONDS
        while time.monotonic() < deadline:
            since, seen = await self._glance()
            found = await self._examined()
            if isinstance(found, Candidate):
                if await self._stays(found, seen, until=since + _stillness(found)):
                    self._concluded = seen
                    return found
            elif found is not None and await self._stays(found, seen, until=since):
                raise found
            await asyncio.sleep(POLL_SECONDS)
        raise BrokenPolicy(f"the policies were written to for {_SETTLE_SECONDS} s")

    async def look(self, conclude: Callable[[Found], Awaitable[None]]) -> None:
        """Hand over what is there if that has changed and become still. Returns at once where nothing
        has changed since.
        """
        since, seen = await self._glance()
        while seen != self._concluded:
            found = await self._examined()
            if (why := _unfinished(found)) is not None:
                _log.info("policy_awaited", extra={"cause": why, "for_s": _PATIENCE_SECONDS})
            if await self._stays(
                found, seen, until=since + (_PATIENCE_SECONDS if why else _stillness(found))
            ):
                self._concluded = seen
                await conclude(found)
                return
            await asyncio.sleep(POLL_SECONDS)
            since, seen = await self._glance()

    def look_again(self) -> None:
        """Take what is there for changed at the next look."""
        self._concluded = None

    async def _glance(self) -> tuple[float, Fingerprint]:
        """Return the fingerprint of what is there, and a time at which that was so."""
        seen = await asyncio.to_thread(self._fingerprint)
        return time.monotonic(), seen

    async def _examined(self) -> Found:
        """Return what is there, built; or what is wrong with it."""
        building = asyncio.get_running_loop().run_in_executor(None, self._build)
        try:
            return await asyncio.shield(building)
        except (BrokenPolicy, OSError) as error:
            return error
        except asyncio.CancelledError:
            while not building.done():  # or it would write into a directory that is about to be removed
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([building])
            building.exception()  # nobody is left to be told
            raise

    async def _stays(self, found: Found, seen: Fingerprint, *, until: float) -> bool:
        """Return whether what was found is of what was seen, and that is still there when the time has
        come; False as soon as it is not.
        """
        if isinstance(found, Candidate) and found.seen != seen:
            return False
        while (await self._glance())[1] == seen:
            left = until - time.monotonic()
            if left <= 0:
                return True
            await asyncio.sleep(min(left, POLL_SECONDS))
        return False


def _stillness(found: Found) -> float:
    """Return for how long this must have been there, in seconds, before it can be believed that nobody
    is still writing it.
    """
    return 0.0 if isinstance(found, Candidate) and found.is_whole else _STILL_SECONDS


def _unfinished(found: Found) -> str | None:
    """Return why somebody may not have finished writing what was found, however still it is; None
    where nothing speaks for that.
    """
    if isinstance(found, IncompletePolicy):
        return found.message
    if isinstance(found, Candidate) and found.gone:
        return f"{', '.join(found.gone)} is gone"
    return None
