"""The shipped policies on the real engine: one rule, two uses. What the compiled filter finds is what
the batch decision admits.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from regate_adapters.opa.engine import OpaEngine
from regate_adapters.testing.opa import running_opa
from regate_orchestrator.filters.evaluate import holds
from regate_orchestrator.filters.expression import Matching, Nothing, expression_of, size
from regate_orchestrator.filters.schema import load_schema
from regate_orchestrator.principal import Principal
from regate_orchestrator.values import Json, JsonObject

REGO: Final = Path(__file__).parents[3] / "rego"
SEED: Final = 20_261_123
NOW: Final = 1_795_397_537
POOLS: Final[dict[str, list[str]]] = {
    "teams": ["hr", "eng", "ops"],
    "roles": ["hr", "legal", "store_admin"],
    "projects": ["apollo", "zeus"],
    "namespaces": ["prod", "dev"],
    "labels": ["hr-only", "public"],
}


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[OpaEngine]:
    schemas = {
        kind: load_schema(REGO / "schemas" / f"{kind}.json")
        for kind in ("chunk", "store", "file", "prompt", "item")
    }
    async with running_opa(REGO, schemas=schemas, deadline_s=10) as engine:
        yield engine


def some(source: random.Random, pool: str) -> tuple[str, ...]:
    return tuple(source.sample(POOLS[pool], source.randint(0, len(POOLS[pool]))))


def principal(source: random.Random) -> Principal:
    return Principal(
        id=source.choice(["ann", "bob"]),
        tenant=source.choice(["acme", "globex"]),
        teams=some(source, "teams"),
        roles=some(source, "roles"),
        projects=some(source, "projects"),
        namespaces=some(source, "namespaces"),
        clearance=source.randint(0, 3),
    )


def row(source: random.Random) -> dict[str, Json]:
    lists: dict[str, Json] = {name: list(some(source, name)) for name in POOLS}
    return lists | {
        "tenant": source.choice(["acme", "globex"]),
        "owner": source.choice(["ann", "bob"]),
        "visibility": source.choice(["private", "attributes", "tenant"]),
        "level": source.randint(0, 3),
        "legal_hold": source.random() < 0.2,
        "embargo_until": source.choice([0, 0, NOW, NOW + 1]),
    }


def document(asker: Principal, action: str, **more: Json) -> JsonObject:
    return {"v": 1, "now": NOW, "request_id": "r", "action": action, "principal": asker.as_input(), **more}


async def test_chunk_filter_finds_exactly_what_the_batch_decision_admits(engine: OpaEngine) -> None:
    source = random.Random(SEED)
    store: JsonObject = {"id": "vs_1", "tenant": "acme", "owner": "ann"}
    both: set[bool] = set()
    for _ in range(30):
        asker = principal(source)
        rows = [row(source) for _ in range(40)]
        planned = await engine.plan(
            "regate/chunk/allow", document(asker, "chunk.read", store=store), unknown="chunk"
        )
        batch = {"stores": {"vs_1": store}, "chunks": [{"store": "vs_1", "chunk": one} for one in rows]}
        batch |= {"items": [], "tool_results": [], "models": []}
        answer = await engine.ask("regate/lib/batch/admitted", document(asker, "batch", **batch))
        assert isinstance(answer.value, dict)
        found = [position for position, one in enumerate(rows) if holds(expression_of(planned.plan), one)]
        both |= {position in found for position in range(len(rows))}

        assert found == sorted(answer.value["chunks"]), f"seed {SEED}, principal {asker}"
    assert both == {True, False}


@pytest.mark.parametrize(
    ("rule", "action", "unknown"),
    [
        ("regate/chunk/allow", "chunk.read", "chunk"),
        ("regate/store/allow", "store.list", "store"),
        ("regate/file/allow", "file.list", "file"),
        ("regate/prompt/allow", "prompt.list", "prompt"),
        ("regate/history/allow", "response.list", "item"),
    ],
)
async def test_every_rule_that_filters_compiles_and_grows_with_the_principal_only(
    engine: OpaEngine, rule: str, action: str, unknown: str
) -> None:
    asker = Principal("ann", "acme", teams=tuple(f"t{number}" for number in range(500)), roles=("legal",))
    planned = await engine.plan(rule, document(asker, action), unknown=unknown)

    assert isinstance(planned.plan, Matching)
    assert size(expression_of(planned.plan)) < 600


async def test_unknown_action_is_for_nobody(engine: OpaEngine) -> None:
    planned = await engine.plan(
        "regate/chunk/allow", document(Principal("ann", "acme"), "chunk.steal"), unknown="chunk"
    )

    assert planned.plan == Nothing()
