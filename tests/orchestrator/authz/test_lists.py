"""Lists: full pages of what the rule permits, whatever the filter let through, and one record before anything
is shown.

The policy and the reading of rows are scripted here; over a real OPA and real databases the same is tried in
`tests/adapters/state/test_shown_lists.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from tests.orchestrator.scripted import CONTEXT, NOW, Policy, Records, counted

from regate_adapters.opa.caching import CachingEngine
from regate_orchestrator.authz import lists as module
from regate_orchestrator.authz.batches import CHUNKS, LISTED_FILES
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.authz.lists import Listed, Listings
from regate_orchestrator.errors import (
    AuditUnavailable,
    FilterNotExpressible,
    InvalidRequest,
    PolicyUnavailable,
    RegateError,
    StateUnavailable,
)
from regate_orchestrator.filters.evaluate import holds
from regate_orchestrator.filters.expression import ALWAYS, Compare, FilterPlan, expression_of
from regate_orchestrator.metrics import Metrics
from regate_orchestrator.ports import PolicyEngine
from regate_orchestrator.rows import Page, Rows
from regate_orchestrator.values import Json, JsonObject

PUBLIC = Compare("eq", ("visibility",), "tenant")
FILES: Listed[JsonObject] = Listed(LISTED_FILES, name=lambda row: str(row["id"]), view=dict)
STORED: Listed[JsonObject] = Listed(
    CHUNKS, name=lambda row: str(row["id"]), view=dict, store={"id": "vs_1", "tenant": "acme"}
)


def row(number: int, *, visible: bool, **more: Json) -> dict[str, Json]:
    return {"id": f"id-{number:03d}", "visibility": "tenant" if visible else "private", **more}


@dataclass
class Shelf:
    """Rows in their order, read page by page as a state store reads them; `between` is done before
    each reading.
    """

    rows: list[dict[str, Json]]
    failing: RegateError | None = None
    readings: list[int] = field(default_factory=list)
    between: Mapping[int, Any] = field(default_factory=dict)

    async def read(self, plan: FilterPlan, page: Page) -> Rows[JsonObject]:
        self.readings.append(page.limit)
        self.between.get(len(self.readings), lambda: None)()
        if self.failing is not None:
            raise self.failing
        permitted = [one for one in self.rows if holds(expression_of(plan), one)]
        names = [one["id"] for one in permitted]
        cursors = {param: permitted[names.index(cursor)] for param, cursor in page.cursors.items()}
        start = 0 if page.after is None else names.index(page.after) + 1
        end = len(names) if page.before is None else names.index(page.before)
        left = permitted[start:end]
        kept = left[-page.limit :] if page.is_backwards else left[: page.limit]
        return Rows(tuple(kept), has_more=len(left) > page.limit, cursors=cursors)


class Place:
    """Lists, with all that they talk to. The filter permits everything; the rule, what is public."""

    def __init__(self, *, engine: Any = None, **policy: Any) -> None:
        self.policy, self.audit, self.metrics = (
            Policy(chunks=PUBLIC, planned=ALWAYS, **policy),
            Records(),
            Metrics(),
        )
        self.now = NOW
        wrapped: PolicyEngine = self.policy if engine is None else engine(self.policy)
        self.listings = Listings(Enforcer(wrapped, self.audit, {}, lambda: self.now, metrics=self.metrics))

    async def shown(
        self, shelf: Shelf, page: Page, listed: Listed[JsonObject] = FILES
    ) -> tuple[list[Json], bool]:
        rows = await self.listings.page(CONTEXT, listed, page, shelf.read)
        return [one["id"] for one in rows.rows], rows.has_more

    @property
    def batches(self) -> list[Any]:
        return [document for rule, document in self.policy.asked if rule == "regate/lib/batch/admitted"]


def rare(count: int = 200, each: int = 20) -> Shelf:
    """Rows of which few may be seen."""
    return Shelf([row(number, visible=number % each == 0) for number in range(count)])


# ---------------------------------------------------------------- the page


@pytest.mark.parametrize(
    ("limit", "shown", "more"),
    [
        (3, [0, 20, 40], True),
        (9, [*range(0, 180, 20)], True),
        (10, [*range(0, 200, 20)], False),
        (100, [*range(0, 200, 20)], False),
    ],
)
async def test_page_is_filled_from_beyond_what_is_denied(limit: int, shown: list[int], more: bool) -> None:
    assert await Place().shown(rare(), Page(limit=limit)) == ([f"id-{number:03d}" for number in shown], more)


async def test_only_a_row_that_may_be_shown_says_that_there_is_more() -> None:
    shelf = Shelf(
        [row(0, visible=True), row(1, visible=True), *(row(number, visible=False) for number in range(2, 50))]
    )

    assert await Place().shown(shelf, Page(limit=2)) == (["id-000", "id-001"], False)


async def test_page_that_is_full_at_once_takes_one_reading_and_one_batch() -> None:
    place, shelf = Place(), Shelf([row(number, visible=True) for number in range(30)])
    await place.shown(shelf, Page(limit=10))

    assert (shelf.readings, [len(batch["listed_files"]) for batch in place.batches]) == ([11], [11])


async def test_each_row_is_decided_once_however_far_is_looked() -> None:
    place, shelf = Place(), rare()
    await place.shown(shelf, Page(limit=4))
    asked = [one["id"] for batch in place.batches for one in batch["listed_files"]]

    assert (shelf.readings, len(asked), len(set(asked))) == ([5, 20, 80, 320], 200, 200)


@pytest.mark.parametrize("listed", [FILES, STORED], ids=["files", "files of a store"])
async def test_list_of_which_nothing_is_permitted_is_empty_and_no_batch_is_asked(
    listed: Listed[JsonObject],
) -> None:
    place = Place()

    assert await place.shown(Shelf([]), Page(), listed) == ([], False)
    assert (place.batches, [sorted(one)[:2] for one in place.audit.written]) == (
        [],
        [["asked_as", "compiled"]],
    )


async def test_files_of_a_store_are_decided_by_their_stamps_with_the_store() -> None:
    place, shelf = Place(), Shelf([row(0, visible=False), row(1, visible=True)])
    shown = await place.shown(shelf, Page(), STORED)
    (batch,) = place.batches

    assert (shown, batch["stores"]) == ((["id-001"], False), {"vs_1": STORED.store})
    assert batch["chunks"] == [{"store": "vs_1", "chunk": one} for one in shelf.rows]


async def test_row_that_changes_between_two_readings_is_decided_as_it_is_shown() -> None:
    place, shelf = Place(), rare(count=30, each=10)
    shelf.between = {2: lambda: shelf.rows[0].update(visibility="private")}

    assert await place.shown(shelf, Page(limit=2)) == (["id-010", "id-020"], False)


async def test_page_that_would_take_too_long_to_fill_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_EXAMINED", 100)
    place, shelf = Place(), rare(count=500, each=60)
    with pytest.raises(FilterNotExpressible) as failure:
        await place.shown(shelf, Page(limit=5))
    (record, denied) = place.audit.written

    assert (failure.value.detail, shelf.readings) == (
        "100 rows were examined for a page of 5 of file.list",
        [6, 24, 96, 100],
    )
    assert (len(record["batch"]["listed_files"]["asked"]), denied["alert"]) == (100, True)  # type: ignore[call-overload,index]


# ---------------------------------------------------------------- cursors


@pytest.mark.parametrize("side", ["after", "before"])
async def test_cursor_that_is_denied_is_refused_and_the_refusal_rests_on_a_record(side: str) -> None:
    place = Place()
    cursors: dict[str, Any] = {side: "id-001"}
    with pytest.raises(InvalidRequest) as refusal:
        await place.shown(rare(), Page(limit=3, **cursors))

    assert (refusal.value.param, refusal.value.message) == (
        side,
        f"'{side}' must be the id of an object in this list.",
    )
    assert place.audit.written[0]["phase"] == "file.list"


async def test_cursors_that_may_be_seen_bound_the_page() -> None:
    pages = [
        Page(limit=2, after="id-020"),
        Page(limit=2, before="id-080"),
        Page(limit=9, after="id-020", before="id-100"),
        Page(limit=9, before="id-040"),
    ]

    assert [await Place().shown(rare(), page) for page in pages] == [
        (["id-040", "id-060"], True),
        (["id-040", "id-060"], True),
        (["id-040", "id-060", "id-080"], False),
        (["id-000", "id-020"], False),
    ]


class Forgetful(Shelf):
    """A reading that does not say which rows the cursors name."""

    async def read(self, plan: FilterPlan, page: Page) -> Rows[JsonObject]:
        return replace(await super().read(plan, page), cursors={})


async def test_cursor_of_which_nobody_knows_the_row_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        await Place().shown(Forgetful(rare().rows), Page(after="id-000"))


# ---------------------------------------------------------------- records and alarms


async def test_one_record_holds_the_filter_what_was_asked_and_what_was_admitted() -> None:
    place, shelf = Place(), rare(count=40, each=10)
    await place.shown(shelf, Page(limit=2))
    record: Any
    (record, _) = place.audit.written

    assert [record[name] for name in ("kind", "phase", "tenant", "revision", "now")] == [
        "decisions",
        "file.list",
        "acme",
        "r1",
        NOW,
    ]
    assert (record["compiled"]["rule"], record["compiled"]["plan"]) == (
        "regate/file/allow",
        {"kind": "everything"},
    )
    assert record["batch"] == {"listed_files": {"asked": shelf.rows, "admitted": [0, 10, 20, 30]}}
    assert counted(place.metrics, "regate_decisions") == {("file", "true"): 4, ("file", "false"): 36}


async def test_nothing_is_shown_that_is_not_recorded() -> None:
    place = Place()
    place.audit.failing = AuditUnavailable("full")

    with pytest.raises(AuditUnavailable):
        await place.shown(rare(), Page())


@pytest.mark.parametrize("failure", [StateUnavailable("gone"), FilterNotExpressible("too deep")])
async def test_list_that_cannot_be_read_leaves_a_record_of_what_was_asked(failure: RegateError) -> None:
    place, shelf = Place(), rare()
    shelf.failing = failure
    with pytest.raises(type(failure)):
        await place.shown(shelf, Page())

    assert [(record["phase"], "batch" in record) for record in place.audit.written] == [("file.list", False)]


async def test_no_answer_about_the_rows_shows_nothing() -> None:
    place = Place(answers={"regate/lib/batch/admitted": None})
    with pytest.raises(PolicyUnavailable):
        await place.shown(rare(), Page())


async def test_rows_that_a_right_filter_would_have_left_out_are_counted_and_told() -> None:
    place = Place()
    await place.shown(rare(count=40, each=10), Page(limit=2))
    denied = place.audit.written[-1]

    assert (place.listings.mismatches, denied["kind"], denied["phase"], denied["alert"]) == (
        36,
        "denied",
        "file.list.denied",
        True,
    )
    assert denied["rows"] == [f"id-{number:03d}" for number in range(40) if number % 10]


def caching(policy: Policy) -> CachingEngine:
    return CachingEngine(policy, seconds=5, entries=10, clock=lambda: 0.0)


async def test_filter_of_an_earlier_policy_shows_nothing_more_and_is_no_mismatch() -> None:
    place, shelf = Place(engine=caching), Shelf([row(0, visible=False), row(1, visible=True)])
    place.policy.chunks = ALWAYS
    assert await place.shown(shelf, Page()) == (["id-000", "id-001"], False)
    place.policy.chunks, place.policy.rev = (
        PUBLIC,
        "r2",
    )  # tightened, after the gateway last heard of the revision

    assert await place.shown(shelf, Page()) == (["id-001"], False)
    assert (place.policy.compiled, place.listings.mismatches, place.audit.written[-1]["alert"]) == (
        1,
        0,
        False,
    )


async def test_row_whose_time_has_passed_is_dropped_and_is_no_mismatch() -> None:
    place, shelf = (
        Place(engine=caching),
        Shelf([row(0, visible=True, until=NOW + 3), row(1, visible=True, until=NOW + 99)]),
    )
    place.policy.decides = lambda one, now: one["until"] > now
    assert await place.shown(shelf, Page()) == (["id-000", "id-001"], False)
    place.now = NOW + 4

    assert await place.shown(shelf, Page()) == (["id-001"], False)
    assert (place.policy.compiled, place.listings.mismatches) == (1, 0)


async def test_filter_that_is_wrong_for_its_own_time_is_a_mismatch_though_it_was_remembered() -> None:
    place, shelf = Place(engine=caching), Shelf([row(0, visible=True, until=NOW - 1)])
    place.policy.decides = lambda one, now: one["until"] > now
    for place.now in (NOW, NOW + 4):
        assert await place.shown(shelf, Page()) == ([], False)

    assert (place.policy.compiled, place.listings.mismatches) == (1, 2)


async def test_page_is_of_one_policy_when_it_changes_while_it_is_filled() -> None:
    place, shelf = Place(), rare(count=40, each=10)

    def change() -> None:
        place.policy.rev, place.policy.decides = "r2", lambda one, _: one["id"] == "id-030"

    shelf.between = {2: change}
    shown = await place.shown(shelf, Page(limit=2))
    record: Any = place.audit.written[0]

    assert (shown, record["revision"]) == ((["id-030"], False), "r2")
    assert record["batch"]["listed_files"] == {"asked": shelf.rows, "admitted": [30]}
    assert place.listings.mismatches == 0  # the filter is another policy's
