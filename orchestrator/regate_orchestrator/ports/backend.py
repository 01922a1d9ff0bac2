"""The upstreams, as the loop and the routes need them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from regate_orchestrator.model_events import ModelEvent
from regate_orchestrator.upstream_capabilities import UpstreamCapabilities
from regate_orchestrator.values import JsonObject


class Backend(Protocol):
    """The upstreams, seen by the loop: one chat completion at a time, as normalised events."""

    def chat(
        self, upstream: str, payload: JsonObject, *, alternates: Sequence[str] = ()
    ) -> AbstractAsyncContextManager[AsyncIterator[ModelEvent]]:
        """Open a streamed chat completion at the named upstream and yield its events, ending with
        `ModelEnded`.

        The payload names the model as clients do, and the output limit `max_tokens`; the upstream must be
        sent its own names for them. Must not enter (raise `UpstreamError` instead) unless the upstream
        answered 2xx. The alternates may be asked, in their order, only where it is certain that nothing was
        sent to the one before. Must yield `ModelFailed` when the stream breaks off, ends without a finish
        reason that is known for a good one, or is not understood. Leaving the context must close the upstream
        connection at once.
        """
        ...


@dataclass(frozen=True, slots=True)
class Serving:
    """Who serves a model. `alternates` may be asked instead, in their order, while the upstream cannot
    be reached.
    """

    upstream: str
    alternates: tuple[str, ...] = ()


class Catalogue(Protocol):
    """Which models there are, by the names that clients use, and which upstream serves each."""

    async def serving(self, model: str, *, by: str | None = None) -> Serving | None:
        """Return who serves the model, or None when no upstream does. Raises `UpstreamError` when none can
        say.

        With `by`, None when that very upstream is not configured or does not serve the model; it has no
        alternates. Without it an upstream that is reserved for policy must not be returned.
        """
        ...

    def capabilities(self, upstream: str) -> UpstreamCapabilities:
        """Return what the upstream, which `serving` has named, can take."""
        ...
