"""The catalogue: which models there are and which upstream serves each. Asks through a callable;
`upstreams.py` does the network part.

Models named in the configuration, aliases among them, are taken as they are. The others are discovered, and
three rules keep that quiet: a listing is good for 30 seconds, concurrent callers share one fetch, and a
fetch that fails takes nothing away. A known model is never kept waiting, and a list of them not for long.
All names here are those that clients use; an upstream's own name for a model is `upstreams.py`'s matter.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from regate_orchestrator.errors import UpstreamError
from regate_orchestrator.ports import Serving
from regate_orchestrator.values import Clock, JsonObject

_log = logging.getLogger("regate.backend")

_FRESH_SECONDS: Final = 30.0
_COOLDOWN_SECONDS: Final = 5.0
_RENEWAL_SECONDS: Final = 1.0
"""How long a list of models waits for upstreams that were heard before, or asked in vain."""


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


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """What the configuration says an upstream serves. `models` None: what it lists. `aliases` are
    names for models of it.
    """

    models: Sequence[str] | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    by_policy: bool = False
    """Whether it is asked only for what the policy sends to it."""
    fallback_for: frozenset[str] = frozenset()
    """Upstreams in whose place it may be asked, for the models that both serve, while they cannot be
    reached.
    """


class _Listing:
    """What one upstream is known to serve, by the names that clients use. `known` is False until it is
    known what it lists.
    """

    def __init__(self, upstream: str, entry: CatalogueEntry, fetch: Fetch, clock: Clock) -> None:
        self.upstream = upstream
        self.entry = entry
        self.discovers = entry.models is None
        self.known = not self.discovers
        self.entries: Mapping[str, ModelEntry] = {}
        self._tell([ModelEntry(model, 0, upstream) for model in entry.models or ()])
        self.error: UpstreamError | None = None
        self._fetch = fetch
        self._clock = clock
        self._fetched_at = self._tried_at = float("-inf")
        self._running: asyncio.Task[None] | None = None

    def refresh(self, group: asyncio.TaskGroup, *, older_than: float) -> asyncio.Task[None] | None:
        """Return the fetch under way, or a new one when the listing is as old as said and the last try
        is not just past; else None.
        """
        now = self._clock()
        if (
            self._running is None
            and now - self._fetched_at >= older_than
            and now - self._tried_at >= _COOLDOWN_SECONDS
        ):
            self._tried_at = now
            self._running = group.create_task(self._refresh())
        return self._running

    def cancel(self) -> None:
        """End the fetch under way, if any."""
        if self._running is not None:
            self._running.cancel()

    async def _refresh(self) -> None:
        try:
            self._tell(await self._fetch(self.upstream))
            self.known = True
            self.error = None
            self._fetched_at = self._tried_at
        except UpstreamError as error:
            self.error = error
            _log.warning("models_not_listed", extra={"upstream": self.upstream, "detail": error.detail})
        # An error that leaves this task would end the gateway; it is logged with its trace
        except Exception:  # noqa: BLE001
            _log.exception("models_not_listed", extra={"upstream": self.upstream})
        finally:
            self._running = None

    def _tell(self, listed: Sequence[ModelEntry]) -> None:
        own = {entry.id: entry for entry in listed}
        aliases = self.entry.aliases
        hidden = (
            set(aliases.values()) if self.discovers else set()
        )  # a name that the operator wrote down himself stays
        named = {
            alias: replace(own.get(model, ModelEntry(model, 0, self.upstream)), id=alias)
            for alias, model in aliases.items()
        }
        self.entries = named | {
            model: entry for model, entry in own.items() if model not in hidden and model not in named
        }


class ModelCatalogue:
    """Where several upstreams serve one model, the first configured is asked. Must be entered: fetches
    run in a task group of its own.
    """

    def __init__(
        self, entries: Mapping[str, CatalogueEntry], fetch: Fetch, *, clock: Clock = time.monotonic
    ) -> None:
        self._listings = {
            upstream: _Listing(upstream, entry, fetch, clock) for upstream, entry in entries.items()
        }
        self._open = [listing for listing in self._listings.values() if not listing.entry.by_policy]
        self._group: asyncio.TaskGroup | None = None

    async def __aenter__(self) -> ModelCatalogue:
        self._group = await asyncio.TaskGroup().__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        group, self._group = self._group, None
        for listing in self._listings.values():
            listing.cancel()
        if group is not None:
            await group.__aexit__(None, None, None)

    def discover(self) -> None:
        """Begin to ask every upstream that lists its models for them; waits for none."""
        self._start(list(self._listings.values()), older_than=0)

    async def serving(self, model: str, *, by: str | None = None) -> Serving | None:
        """Return who serves the model, or None when all that might were asked and none does; see
        `ports.Catalogue.serving`.

        Raises `UpstreamError` when the model is unknown and an upstream that might serve it has never said
        what it serves.
        """
        if by is None:
            asked = self._open
        elif by in self._listings:
            asked = [self._listings[by]]
        else:
            return None
        found = await self._find(model, asked)
        if found is None:
            return None
        return Serving(found, self._alternates(found, model) if by is None else ())

    async def all(self) -> Mapping[str, tuple[str, ModelEntry]]:
        """Return every model with its upstream, in the order of configuration; not those that only policy
        sends requests to.

        Raises `UpstreamError` when no upstream has ever said.
        """
        await self._renewed(self._open)
        models: dict[str, tuple[str, ModelEntry]] = {}
        for listing in self._open:
            for entry in listing.entries.values():
                models.setdefault(entry.id, (listing.upstream, entry))
        self.require_models()
        return models

    def renew(self) -> set[asyncio.Task[None]]:
        """Begin to renew what is out of date; return what is under way, for whoever wants to wait for it."""
        return self._start(self._open, older_than=_FRESH_SECONDS)

    @property
    def has_models(self) -> bool:
        """Whether any model is known that is not only served where policy says so."""
        return any(listing.entries for listing in self._open)

    def require_models(self) -> None:
        """Raise `UpstreamError` when no model is known, and an upstream has never said what it serves."""
        if not self.has_models:
            self._require_knowledge(self._open)

    async def reserved(self) -> Mapping[str, tuple[frozenset[str], ModelEntry]]:
        """Return the models that are served only where policy says so, with the upstreams that it may
        name for each. Raises nothing.
        """
        reserved = [listing for listing in self._listings.values() if listing.entry.by_policy]
        await self._renewed(reserved)
        models: dict[str, tuple[frozenset[str], ModelEntry]] = {}
        for listing in reserved:
            for entry in listing.entries.values():
                upstreams, first = models.get(entry.id, (frozenset(), entry))
                models[entry.id] = (upstreams | {listing.upstream}, first)
        return {
            model: found
            for model, found in models.items()
            if not any(model in listing.entries for listing in self._open)
        }

    async def _renewed(self, listings: Sequence[_Listing]) -> None:
        """Renew what is out of date; wait for an upstream that was never heard of."""
        is_new = any(not listing.known and listing.error is None for listing in listings)
        if waiting := self._start(listings, older_than=_FRESH_SECONDS):
            await asyncio.wait(waiting, timeout=None if is_new else _RENEWAL_SECONDS)

    async def _find(self, model: str, asked: Sequence[_Listing]) -> str | None:
        self._start(
            asked, older_than=_FRESH_SECONDS
        )  # a stale listing is renewed beside the request that noticed
        found = _first(model, asked)
        waiting = set() if found is not None else self._start(asked, older_than=0)
        while waiting and found is None:
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            found = _first(model, asked)
        if found is None:
            self._require_knowledge(asked)
        return found

    def _alternates(self, upstream: str, model: str) -> tuple[str, ...]:
        return tuple(
            one.upstream for one in self._open if upstream in one.entry.fallback_for and model in one.entries
        )

    def _start(self, listings: Sequence[_Listing], *, older_than: float) -> set[asyncio.Task[None]]:
        if self._group is None:
            return set()
        tasks = [
            listing.refresh(self._group, older_than=older_than) for listing in listings if listing.discovers
        ]
        return {task for task in tasks if task is not None}

    def _require_knowledge(self, asked: Sequence[_Listing]) -> None:
        for listing in asked:
            if not listing.known:
                error = listing.error
                detail = f"{listing.upstream} never listed its models" + (
                    f": {error.detail}" if error else ""
                )
                passing = error is None or error.status != 400
                advice = (
                    "Try again later."
                    if passing
                    else "Tell the operator: the gateway's log says what it answers."
                )
                raise UpstreamError(f"A backend cannot say which models it serves. {advice}", detail=detail)


def _first(model: str, listings: Sequence[_Listing]) -> str | None:
    return next((listing.upstream for listing in listings if model in listing.entries), None)
