"""What a caller asks for costs what their tenant has, and not what all tenants have: each list, and each look
at one thing, goes by an index that leads to the tenant or to the thing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import pytest
from sqlalchemy import create_engine, insert, text
from tests.adapters.state.plans import overheard, plan_of, pretend_much_is_stored, reads_all_of
from tests.adapters.state.samples import (
    ANN,
    BOB,
    PATIENT_SECONDS,
    attached_of,
    conversation_of,
    file_of,
    items_of,
    prompt_of,
    response_of,
    store_of,
    version_of,
)

from regate_adapters.state.encoding import encode, store_columns
from regate_adapters.state.store import SqlStateStore
from regate_adapters.state.tables import vector_stores
from regate_orchestrator.filters.expression import And, Compare, Everything, FilterPlan, Matching
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import Page
from regate_orchestrator.values import ConversationId, FileId, ResponseId, StoreId

OWN: Final = Matching(Compare("eq", ("owner",), ANN.id))
"""What the shipped policy says of responses, and in part of all else."""

AMONG_OTHERS: Final = Matching(And((OWN.expression, Compare("eq", ("kind",), "response"))))

Look = Callable[[SqlStateStore, FilterPlan], Awaitable[Any]]
LISTS: Final[dict[str, Look]] = {
    "files": lambda store, plan: store.files.page(ANN, plan, Page(limit=20), purpose=None),
    "files of a purpose": lambda store, plan: store.files.page(
        ANN, plan, Page(limit=20), purpose="assistants"
    ),
    "files after one": lambda store, plan: store.files.page(
        ANN, plan, Page(limit=20, after="file-1"), purpose=None
    ),
    "vector stores": lambda store, plan: store.vector_stores.page(ANN, plan, Page(limit=20)),
    "vector stores after one": lambda store, plan: store.vector_stores.page(
        ANN, plan, Page(limit=20, after="vs_1")
    ),
    "files of a store": lambda store, plan: store.attachments.page(
        ANN, StoreId("vs_1"), plan, Page(limit=20), status=None
    ),
    "prompts": lambda store, plan: store.prompts.page(ANN, plan, Page(limit=20)),
    "responses": lambda store, plan: store.responses.page(ANN, plan, Page(limit=20)),
}
LOOKS: Final[dict[str, Look]] = {
    "a file": lambda store, _: store.files.get(ANN, FileId("file-1")),
    "what somebody has": lambda store, _: store.files.usage(ANN),
    "a store": lambda store, _: store.vector_stores.get(ANN, StoreId("vs_1")),
    "what is in a store": lambda store, _: store.attachments.totals(ANN, [StoreId("vs_1")]),
    "a response": lambda store, _: store.responses.get(ANN, ResponseId("resp_1")),
    "a chain": lambda store, _: store.responses.chain(ANN, ResponseId("resp_1")),
    "a conversation": lambda store, _: store.conversations.get(ANN, ConversationId("conv_1")),
    "a new response": lambda store, _: store.responses.save(response_of(ANN, "resp_2")),
    "spent in a month": lambda store, _: store.usage.spent(
        first=1, tenant=ANN.tenant, person=ANN.id, model=""
    ),
    "spent by a tenant": lambda store, _: store.usage.spent(first=1, tenant=ANN.tenant, person="", model=""),
}


OTHERS: Final = 3_000


def add_stores_of_other_tenants(url: str) -> None:
    """So that a database which keeps statistics knows what share of the stores is a tenant's, or shared."""
    engine = create_engine(url, json_serializer=encode)
    rows = [
        {**store_columns(store_of(Principal("eve", f"t{number}"), f"vs_x{number}")), "ordinal": 100 + number}
        for number in range(OTHERS)
    ]
    with engine.begin() as connection:
        connection.execute(insert(vector_stores), rows)
        connection.execute(text("ANALYZE vector_stores"))
    engine.dispose()


@pytest.fixture
async def filled(url: str) -> AsyncIterator[SqlStateStore]:
    async with SqlStateStore.open(url, deadline_s=PATIENT_SECONDS) as store:
        await store.vector_stores.add(store_of(ANN))
        await store.files.add(file_of(ANN))
        await store.attachments.put([attached_of(ANN)])
        await store.responses.save(response_of(ANN))
        await store.conversations.add(conversation_of(ANN), items_of("msg_1"))
        await store.prompts.add(prompt_of(ANN), version_of(ANN))
        add_stores_of_other_tenants(url)
        yield store


@pytest.mark.parametrize("plan", [Everything(), OWN], ids=["everything", "own"])
@pytest.mark.parametrize("name", [*LISTS, *LOOKS])
async def test_what_a_caller_asks_for_reads_no_table_whole(
    name: str, plan: FilterPlan, url: str, filled: SqlStateStore
) -> None:
    with overheard() as said:
        await {**LISTS, **LOOKS}[name](filled, plan)
    if url.startswith("postgres"):
        pretend_much_is_stored(url)
    whole = {}
    for one in said:
        async with filled._database.writing(ANN.tenant) as connection:
            if steps := await reads_all_of(connection, one):
                whole[one[0]] = steps

    assert said
    assert whole == {}


async def test_own_responses_are_listed_without_reading_those_of_colleagues(
    url: str, filled: SqlStateStore
) -> None:
    await filled.responses.save(response_of(BOB, "resp_of_bob"))
    with overheard() as said:
        listed = await filled.responses.page(ANN, AMONG_OTHERS, Page(limit=20))
    if url.startswith("postgres"):
        pretend_much_is_stored(url)
    async with filled._database.writing(ANN.tenant) as connection:
        plan = await plan_of(connection, said[0])

    assert [row.id for row in listed.rows] == ["resp_1"]
    assert "ix_responses_tenant_owner_ordinal" in plan
    assert "owner" in plan
