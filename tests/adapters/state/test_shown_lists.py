"""Lists as they are shown, over a real OPA and real databases: whatever the filter lets through, nothing is
shown that the rule denies.

No shipped policy has a filter wider than its rule, so the engine in between loses the filter: a plan is not
to be trusted wherever it is from.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from sqlalchemy import insert
from tests.adapters.state.samples import (
    BOB,
    PATIENT_SECONDS,
    attachment_of,
    file_of,
    prompt_of,
    response_of,
    stamp_of,
    store_of,
)
from tests.postgres import Postgres

from regate_adapters.audit.log import SegmentedAuditLog
from regate_adapters.opa.batching import BatchingEngine
from regate_adapters.opa.engine import OpaEngine
from regate_adapters.state import tables
from regate_adapters.state.encoding import file_columns, prompt_columns, response_columns, store_columns
from regate_adapters.state.store import SqlStateStore
from regate_adapters.testing.opa import running_opa
from regate_gateway.workbench.directory import shipped_policies
from regate_gateway.workbench.replay.engine import row_schemas
from regate_gateway.workbench.replay.recorded import questions_in, read_records
from regate_orchestrator.authz.batches import (
    CHUNKS,
    LISTED_FILES,
    LISTED_PROMPTS,
    LISTED_RESPONSES,
    LISTED_STORES,
)
from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.authz.lists import Listed, Listings, Reading
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.filters.expression import Everything
from regate_orchestrator.ports import Answer, Planned, PolicyEngine
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import Page, ResponseRow
from regate_orchestrator.values import JsonObject, RequestId, StoreId

ANN: Final = Principal("ann", "acme", teams=("sales",))
CONTEXT: Final = Context(ANN, RequestId("req_1"))
COUNT: Final = 300
EACH: Final = 9
"""Every ninth row may be seen by ann."""
STORE: Final = store_of(ANN, "vs_all")
SCHEMAS: Final = row_schemas(shipped_policies())
KINDS: Final = ("stores", "files", "prompts", "responses", "attachments")

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Widened:
    """Passes everything on to an engine, and loses every filter."""

    inner: PolicyEngine
    batches: int = 0

    async def ask(self, rule: str, document: JsonObject) -> Answer:
        self.batches += rule == "regate/lib/batch/admitted"
        return await self.inner.ask(rule, document)

    async def plan(self, rule: str, document: JsonObject, *, unknown: str) -> Planned:
        return replace(await self.inner.plan(rule, document, unknown=unknown), plan=Everything())

    async def revision(self) -> str:
        return await self.inner.revision()


@dataclass
class Place:
    """Lists of one database, and where their records are."""

    state: SqlStateStore
    listings: Listings
    engine: Widened
    audit: Path
    names: list[str]

    async def shown(self, kind: str, page: Page) -> tuple[list[str], bool]:
        listed, read = list_of(kind, self.state)
        rows = await self.listings.page(CONTEXT, listed, page, read)
        return [listed.name(row) for row in rows.rows], rows.has_more

    def records(self, **wanted: Any) -> list[Any]:
        return [
            record
            for record in read_records(self.audit)
            if all(record.get(key) == value for key, value in wanted.items())
        ]


def list_of(kind: str, state: SqlStateStore) -> tuple[Listed[Any], Reading[Any]]:
    def described(name: str, *fields: str) -> Any:
        return lambda row: SCHEMAS[name].canonical(
            {**row.stamp, **{field: getattr(row, field) for field in ("id", *fields)}}
        )

    listed: Listed[Any]
    match kind:
        case "stores":
            listed = Listed(LISTED_STORES, name=lambda row: row.id, view=described("store", "name"))
            return listed, partial(state.vector_stores.page, ANN)
        case "files":
            listed = Listed(
                LISTED_FILES, name=lambda row: row.id, view=described("file", "filename", "purpose")
            )
            return listed, partial(state.files.page, ANN, purpose=None)
        case "prompts":
            listed = Listed(LISTED_PROMPTS, name=lambda row: row.id, view=described("prompt", "name"))
            return listed, partial(state.prompts.page, ANN)
        case "responses":
            return Listed(LISTED_RESPONSES, name=lambda row: row.id, view=ResponseRow.view), partial(
                state.responses.page, ANN
            )
        case _:
            view = {**STORE.stamp, "id": STORE.id, "name": STORE.name}
            listed = Listed(CHUNKS, name=lambda row: row.file_id, view=lambda row: row.stamp, store=view)
            return listed, partial(state.attachments.page, ANN, StoreId(STORE.id), status=None)


async def fill(state: SqlStateStore, kind: str) -> list[str]:
    """Store the rows, several with one creation time; return the ids of those that ann may see,
    oldest first.
    """
    owners = [ANN if number % EACH == 0 else BOB for number in range(COUNT)]
    about: list[Any] = [(who, f"id-{number:03d}") for number, who in enumerate(owners)]
    sharing = {"visibility": "private"}
    rows: list[dict[str, Any]]
    match kind:
        case "stores":
            table, rows = (
                tables.vector_stores,
                [store_columns(store_of(who, name, **sharing)) for who, name in about],
            )
        case "prompts":
            table, rows = (
                tables.prompts,
                [prompt_columns(prompt_of(who, name, **sharing)) for who, name in about],
            )
        case "responses":
            made = [response_of(who, name, items=0) for who, name in about]
            own = [
                {"id": row.id, "tenant": row.tenant, "owner": row.owner, "gateway": "gw_1"} for row in made
            ]
            table, rows = (
                tables.responses,
                [{**response_columns(row), **known} for row, known in zip(made, own, strict=True)],
            )
        case _:
            table, rows = tables.files, [file_columns(file_of(who, name, **sharing)) for who, name in about]
    for number, row in enumerate(rows):
        row["created_at"] = 100 + number // 4
        row["ordinal"] = number + 1
    async with state._database.maintenance.writing() as connection:
        await connection.execute(insert(table), rows)
    if kind == "attachments":
        await state.vector_stores.add(STORE)
        stamps = [
            {**stamp_of(who, **sharing), "legal_hold": False, "embargo_until": 0, "labels": []}
            for who in owners
        ]
        made_at = [row["created_at"] for row in rows]
        attached = zip(about, stamps, made_at, strict=True)
        await state.attachments.put(
            [
                attachment_of(BOB, STORE.id, name, stamp=stamp, created_at=at)
                for (_, name), stamp, at in attached
            ]
        )
    return [name for who, name in about if who is ANN]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opa() -> AsyncIterator[OpaEngine]:
    async with running_opa(shipped_policies(), schemas=SCHEMAS, deadline_s=PATIENT_SECONDS) as engine:
        yield engine


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def url_of_all(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database for all tests of a kind: none of them writes."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('state') / 'state.db'}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    with server.database() as name:
        yield server.url(name).replace("postgresql://", "postgresql+psycopg://")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def filled(url_of_all: str, kind: str) -> AsyncIterator[tuple[SqlStateStore, list[str]]]:
    async with SqlStateStore.open(url_of_all, deadline_s=PATIENT_SECONDS) as state:
        yield state, await fill(state, kind)


@pytest_asyncio.fixture(loop_scope="module")
async def place(
    opa: OpaEngine, filled: tuple[SqlStateStore, list[str]], tmp_path: Path
) -> AsyncIterator[Place]:
    engine, audit = Widened(BatchingEngine(opa)), tmp_path / "audit"
    async with SegmentedAuditLog.open(audit, durable=False, deadline_s=PATIENT_SECONDS) as log:
        state, names = filled
        yield Place(state, Listings(Enforcer(engine, log, SCHEMAS)), engine, audit, names)


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_are_full_of_what_the_rule_permits_without_gap_or_repetition(
    place: Place, kind: str, order: Any
) -> None:
    wanted = place.names if order == "asc" else place.names[::-1]
    pages: list[list[str]] = []
    after, more = None, True
    while more:
        names, more = await place.shown(kind, Page(limit=8, order=order, after=after))
        pages.append(names)
        after = names[-1]

    assert pages == [wanted[start : start + 8] for start in range(0, len(wanted), 8)]
    assert len(wanted) > 32


async def test_pages_back_from_a_row_are_full_and_in_order(place: Place, kind: str) -> None:
    names = place.names
    pages = [await place.shown(kind, Page(limit=8, order="asc", before=names[at])) for at in (20, 8, 3, 0)]

    assert pages == [(names[12:20], True), (names[:8], False), (names[:3], False), ([], False)]


async def test_row_that_may_not_be_seen_is_no_cursor(place: Place, kind: str) -> None:
    said: list[tuple[str | None, str]] = []
    for cursor in ("id-001", "id-absent"):
        for side in ("after", "before"):
            with pytest.raises(InvalidRequest) as refusal:
                await place.shown(kind, Page(limit=8, **{side: cursor}))
            said.append((refusal.value.param, refusal.value.message))

    assert (
        said[:2]
        == said[2:]
        == [(side, f"'{side}' must be the id of an object in this list.") for side in ("after", "before")]
    )


async def test_one_record_holds_the_filter_and_every_row_that_was_decided(place: Place, kind: str) -> None:
    names, _ = await place.shown(kind, Page(limit=100, order="asc"))
    (record,) = [one for one in place.records(kind="decisions") if "compiled" in one]
    asked = questions_in(record)
    (batch,) = asked.batches
    decided = [one for one in batch.members.values() if one.action == record["phase"]]
    allowed = [one.about for one in decided if one.allowed]

    assert (record["compiled"]["plan"], asked.unreadable, len(asked.plans)) == ({"kind": "everything"}, 0, 1)
    assert (allowed, names) == (place.names, place.names)
    assert len({one.about for one in decided}) == len(decided) == COUNT


async def test_what_the_filter_let_through_wrongly_raises_the_alarm(place: Place, kind: str) -> None:
    await place.shown(kind, Page(limit=100, order="asc"))
    (denied,) = place.records(kind="denied")

    assert (place.listings.mismatches, denied["alert"], len(denied["rows"])) == (
        COUNT - len(place.names),
        True,
        COUNT - len(place.names),
    )
    assert set(denied["rows"]).isdisjoint(place.names)


async def test_page_of_what_a_right_filter_permits_takes_one_batch(place: Place, kind: str) -> None:
    engine = Counting(place.engine.inner)
    listed, read = list_of(kind, place.state)
    async with SegmentedAuditLog.open(
        place.audit.parent / "second", durable=False, deadline_s=PATIENT_SECONDS
    ) as log:
        listings = Listings(Enforcer(engine, log, SCHEMAS))
        rows = await listings.page(CONTEXT, listed, Page(limit=10, order="asc"), read)

    assert [listed.name(row) for row in rows.rows] == place.names[:10]
    assert (rows.has_more, engine.batches, listings.mismatches) == (True, 1, 0)


class Counting(Widened):
    """The same without the defect."""

    async def plan(self, rule: str, document: JsonObject, *, unknown: str) -> Planned:
        return await self.inner.plan(rule, document, unknown=unknown)
