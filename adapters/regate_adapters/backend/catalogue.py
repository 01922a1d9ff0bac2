"""The catalogue: which models there are and which upstream serves each. Asks through a callable; `upstreams.py` does the network part.

Models named in the configuration are taken as they are. The others are discovered, and three rules keep that quiet: a listing is good for
30 seconds, concurrent callers share one fetch, and a fetch that fails takes nothing away. A known model is never kept waiting.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from regate_orchestrator.errors import UpstreamError
from regate_orchestrator.values import Clock, JsonObject

_log = logging.getLogger("regate.backend")

_FRESH_S: Final = 30.0
_COOLDOWN_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model as `GET /v1/models` shows it. `created` is 0 where nobody said."""

    id: str
    created: int
    owned_by: str

    def as_json(self) -> JsonObject:
        """Return the entry in the API's shape."""
        return {"id": self.id, "object": "model", "created": self.created, "owned_by": self.owned_by}


Fetch = Callable[[str], Awaitable[Sequence[ModelEntry]]]
"""Returns what the named upstream lists; raises `UpstreamError`. Must have a deadline."""


class _Listing:
    """What one upstream is known to serve. `entries` is None until a fetch has succeeded."""

    def __init__(self, upstream: str, fetch: Fetch, clock: Clock) -> None:
        self.upstream = upstream
        self.entries: Mapping[str, ModelEntry] | None = None
        self.error: UpstreamError | None = None
        self._fetch = fetch
        self._clock = clock
        self._fetched_at = self._tried_at = float("-inf")
        self._running: asyncio.Task[None] | None = None

    def refresh(self, group: asyncio.TaskGroup, *, older_than: float) -> asyncio.Task[None] | None:
        """Return the fetch under way, or a new one when the listing is as old as said and the last try is not just past; else None."""
        now = self._clock()
        if self._running is None and now - self._fetched_at >= older_than and now - self._tried_at >= _COOLDOWN_S:
            self._tried_at = now
            self._running = group.create_task(self._refresh())
        return self._running

    def cancel(self) -> None:
        """End the fetch under way, if any."""
        if self._running is not None:
            self._running.cancel()

    async def _refresh(self) -> None:
        try:
            entries = await self._fetch(self.upstream)
            self.entries = {entry.id: entry for entry in entries}
            self.error = None
            self._fetched_at = self._tried_at
        except UpstreamError as error:
            self.error = error
            _log.warning("models_not_listed", extra={"upstream": self.upstream, "detail": error.detail})
        except Exception:  # noqa: BLE001 — an error that leaves this task would end the gateway; it is logged with its trace
            _log.exception("models_not_listed", extra={"upstream": self.upstream})
        finally:
            self._running = None


class ModelCatalogue:
    """Where several upstreams serve one model, the first configured is asked. Must be entered: fetches run in a task group of its own."""

    def __init__(self, configured: Mapping[str, Sequence[ModelEntry] | None], fetch: Fetch, *, clock: Clock = time.monotonic) -> None:
        self._listings: dict[str, _Listing] = {}
        self._discovered: list[_Listing] = []
        for upstream, entries in configured.items():
            listing = self._listings[upstream] = _Listing(upstream, fetch, clock)
            if entries is None:
                self._discovered.append(listing)
            else:
                listing.entries = {entry.id: entry for entry in entries}
        self._group: asyncio.TaskGroup | None = None

    async def __aenter__(self) -> ModelCatalogue:
        self._group = await asyncio.TaskGroup().__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        group, self._group = self._group, None
        for listing in self._discovered:
            listing.cancel()
        if group is not None:
            await group.__aexit__(None, None, None)

    async def upstream_for(self, model: str) -> str | None:
        """Return the name of the upstream that serves the model, or None when every upstream was asked and none does.

        Raises `UpstreamError` when the model is unknown and an upstream that might serve it has never said what it serves.
        """
        self._start(older_than=_FRESH_S)  # a stale listing is renewed beside the request that noticed
        found = self._find(model)
        waiting = set() if found is not None else self._start(older_than=0)
        while waiting and found is None:
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            found = self._find(model)
        if found is None:
            self._require_knowledge()
        return found

    async def all(self) -> Mapping[str, tuple[str, ModelEntry]]:
        """Return every model with its upstream, in the order of configuration. Raises `UpstreamError` when no upstream has ever said."""
        if waiting := self._start(older_than=_FRESH_S):
            await asyncio.wait(waiting)
        models: dict[str, tuple[str, ModelEntry]] = {}
        for listing in self._listings.values():
            for entry in (listing.entries or {}).values():
                models.setdefault(entry.id, (listing.upstream, entry))
        if not models:
            self._require_knowledge()
        return models

    def _find(self, model: str) -> str | None:
        return next((listing.upstream for listing in self._listings.values() if model in (listing.entries or ())), None)

    def _start(self, *, older_than: float) -> set[asyncio.Task[None]]:
        if self._group is None:
            return set()
        tasks = [listing.refresh(self._group, older_than=older_than) for listing in self._discovered]
        return {task for task in tasks if task is not None}

    def _require_knowledge(self) -> None:
        for listing in self._discovered:
            if listing.entries is None:
                detail = f"{listing.upstream} never listed its models" + (f": {listing.error.detail}" if listing.error else "")
                raise UpstreamError("A backend cannot say which models it serves. Try again later.", detail=detail)
