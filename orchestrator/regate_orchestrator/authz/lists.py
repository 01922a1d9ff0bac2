"""Lists of rows: a page of what the compiled filter permits, each row of it decided again before anybody sees
it (I13).

The filter decides what a list costs; the decision decides what is shown, and what a cursor may name. What is
denied is dropped, and the page filled from beyond it. All that a list rests on is one audit record. Retrieval
does the same for chunks (`retrieval/search.py`).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar, cast

from regate_orchestrator.authz.batches import Admitted, Batch, Kind
from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.authz.plan_records import Compiled
from regate_orchestrator.errors import FilterNotExpressible, RegateError
from regate_orchestrator.filters.expression import FilterPlan
from regate_orchestrator.rows import Page, Rows, no_such_cursor
from regate_orchestrator.values import Json, JsonObject

Row = TypeVar("Row")

Reading = Callable[[FilterPlan, Page], Awaitable[Rows[Row]]]
"""Returns the page of the rows that the plan permits, as the state store's lists do."""

_MAX_EXAMINED: Final = 20_000
"""Twice the largest page there is. Deciding so many rows takes a second or two of OPA."""


@dataclass(frozen=True, slots=True)
class Listed(Generic[Row]):
    """A list: by which rule and action its rows are decided, and how that rule sees a row."""

    kind: Kind
    name: Callable[[Row], str]
    """Returns the id by which the list names a row."""
    view: Callable[[Row], JsonObject]
    store: JsonObject | None = None
    """Of a list of what is in a vector store: that store, as policies see it."""

    @property
    def resource(self) -> JsonObject:
        """Return what the rule is told beside the row."""
        return {} if self.store is None else {"store": self.store}

    def batch(self, views: Sequence[JsonObject]) -> Batch:
        """Return the decisions to ask: one for each of these rows, and none where there is no row."""
        if self.store is None or not views:
            return Batch.of(self.kind, views)
        store = cast("str", self.store["id"])
        return Batch(stores={store: self.store}, chunks=[(store, view) for view in views])


class Listings:
    """Shows lists to principals, and nothing in them that was not decided. Only what it returns may
    be shown.
    """

    def __init__(self, enforcer: Enforcer) -> None:
        self._enforcer = enforcer
        self.mismatches = 0
        """Rows that a filter permitted and the decision denied, by one policy at one time (I13): must
        stay 0.
        """

    async def page(self, context: Context, listed: Listed[Row], page: Page, read: Reading[Row]) -> Rows[Row]:
        """Return the page of the rows that the caller may be shown, recorded; it is full unless the list ends
        with it.

        Raises `InvalidRequest` for a cursor that names no row which the caller may be shown, and
        `FilterNotExpressible` for a filter that the store cannot follow, or that permits so much of what is
        denied that a page would take too long to fill.
        """
        began = time.perf_counter()
        kind = listed.kind
        compiled = await self._enforcer.plan(
            context, kind.point, kind.action, unknown=kind.row, resource=listed.resource
        )
        found = _Found(self._enforcer, context, listed, compiled)
        try:
            rows = await _look(found, page, read)
        except RegateError:  # what is refused tells of the rows as well
            await self._record(context, found, began)
            raise
        await self._record(context, found, began)
        return rows

    async def _record(self, context: Context, found: _Found[Row], began: float) -> None:
        action = found.listed.kind.action
        notes: dict[str, Json] = {
            "compiled": found.compiled.note,
            "ms": round((time.perf_counter() - began) * 1000, 3),
        }
        if found.listed.store is not None:
            notes["files"] = list(found.names)  # a chunk's stamp does not say which it is
        await self._enforcer.settled(
            context, action, found.asked, found.admitted, now=found.compiled.asked_at, notes=notes
        )
        if found.denied:
            mismatched = await found.mismatched()
            self.mismatches += mismatched
            rows = [found.names[place] for place in found.denied]
            await self._enforcer.record(
                context, f"{action}.denied", {"kind": "denied", "alert": mismatched > 0, "rows": rows}
            )


async def _look(found: _Found[Row], page: Page, read: Reading[Row]) -> Rows[Row]:
    """Return the page, looking further until it is full and known to go on, or the list ends. Each row is
    decided once.

    One row beyond the page is decided as well: only a row that may be shown says that there is more.
    """
    want = page.limit + 1
    while True:
        rows = await read(found.compiled.plan, replace(page, limit=want))
        allowed = await found.decide([*rows.cursors.values(), *rows.rows])
        seen = {param for param, is_shown in zip(rows.cursors, allowed, strict=False) if is_shown}
        for param in page.cursors:
            if param not in seen:
                raise no_such_cursor(param)
        shown = [
            row for row, is_shown in zip(rows.rows, allowed[len(rows.cursors) :], strict=True) if is_shown
        ]
        if len(shown) > page.limit or not rows.has_more:
            kept = shown[-page.limit :] if page.is_backwards else shown[: page.limit]
            return Rows(tuple(kept), has_more=len(shown) > page.limit)
        if want >= _MAX_EXAMINED:
            raise FilterNotExpressible(
                f"{want} rows were examined for a page of {page.limit} of {found.listed.kind.action}"
            )
        want = min(want * 4, _MAX_EXAMINED)


class _Found(Generic[Row]):
    """The rows that were looked at, in the order in which they were asked about, and what was decided
    about them: all by one policy.
    """

    def __init__(self, enforcer: Enforcer, context: Context, listed: Listed[Row], compiled: Compiled) -> None:
        self._enforcer = enforcer
        self._context = context
        self.listed = listed
        self.compiled = compiled
        self.names: list[str] = []
        self._views: list[JsonObject] = []
        self._places: dict[str, int] = {}
        self._allowed: set[int] = set()
        self._last = Admitted("")

    async def decide(self, rows: Sequence[Row]) -> list[bool]:
        """Return for each row whether it may be shown. Only those are asked about that were not decided as
        they are here.

        When the policy has changed since others were decided, all are decided anew: a page is of one policy.
        """
        present = [(self.listed.name(row), self.listed.view(row)) for row in rows]
        unseen = {name: view for name, view in present if not self._has(name, view)}
        if unseen:
            batch = self.listed.batch(list(unseen.values()))
            answer = await self._enforcer.admitted_at(self._context, batch, now=self.compiled.asked_at)
            if self.names and answer.revision != self._last.revision:
                self._forget()
                return await self.decide(rows)
            self._take(unseen, answer)
        return [self._places[name] in self._allowed for name, _ in present]

    @property
    def asked(self) -> Batch:
        """Return all that was asked, as one batch."""
        return self.listed.batch(self._views)

    @property
    def admitted(self) -> Admitted:
        """Return what of that was admitted."""
        own: dict[str, Any] = {self.listed.kind.name: frozenset(self._allowed)}
        return replace(self._last, revision=self._last.revision or self.compiled.revision, **own)

    @property
    def denied(self) -> list[int]:
        """Return the places of the rows that were denied."""
        return [place for place in range(len(self.names)) if place not in self._allowed]

    async def mismatched(self) -> int:
        """Return how many of the denied the filter should have left out: what its very policy denies at the
        time that it was made for.

        The others are no fault: the policy changed, or a time that a rule compares with has come since.
        """
        if self.compiled.revision != self._last.revision:
            return 0
        denied = self.denied
        if self.compiled.now == self.compiled.asked_at:
            return len(denied)
        batch = self.listed.batch([self._views[place] for place in denied])
        then = await self._enforcer.admitted_at(self._context, batch, now=self.compiled.now)
        return len(denied) - len(then.of(self.listed.kind)) if then.revision == self._last.revision else 0

    def _has(self, name: str, view: JsonObject) -> bool:
        return name in self._places and self._views[self._places[name]] == view

    def _take(self, unseen: Mapping[str, JsonObject], answer: Admitted) -> None:
        start = len(self.names)
        self._last = answer
        self._places.update(zip(unseen, range(start, start + len(unseen)), strict=True))
        self._allowed.update(start + cast("int", place) for place in answer.of(self.listed.kind))
        self.names.extend(unseen)
        self._views.extend(unseen.values())

    def _forget(self) -> None:
        for held in (self.names, self._views, self._places, self._allowed):
            held.clear()
