"""Batches asked with less work: the answer is that of the whole question, whatever was asked of OPA.
Real OPA, with the shipped policies.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from tests.adapters.opa.policies import write_policies

from regate_adapters.opa.batching import BatchingEngine
from regate_adapters.opa.engine import OpaEngine
from regate_adapters.testing.opa import running_opa
from regate_orchestrator.authz import batches
from regate_orchestrator.errors import PolicyUnavailable
from regate_orchestrator.filters.expression import Matching
from regate_orchestrator.filters.schema import load_schema
from regate_orchestrator.ports import Answer, Planned, PolicyEngine
from regate_orchestrator.values import Json, JsonObject

RULE: Final = "regate/lib/batch/admitted"
REGO: Final = Path(__file__).parents[3] / "rego"
WHO: Final[JsonObject] = {"id": "ann", "tenant": "acme", "teams": ["hr"], "clearance": 1, "attrs": {}}
ANN: Final[JsonObject] = {**WHO, "roles": [], "projects": [], "namespaces": [], "scopes": []}
OPEN: Final[JsonObject] = {
    "tenant": "acme",
    "owner": "bob",
    "visibility": "attributes",
    "teams": ["hr"],
    "level": 1,
}
STAMP: Final[JsonObject] = {
    **OPEN,
    "legal_hold": False,
    "embargo_until": 0,
    "roles": [],
    "projects": [],
    "namespaces": [],
    "labels": [],
}
STORE: Final[JsonObject] = {"id": "vs_1", "tenant": "acme", "owner": "ann"}

pytestmark = pytest.mark.asyncio(loop_scope="module")


def batch(*chunks: Json, **more: Json) -> dict[str, Json]:
    common: dict[str, Json] = {
        "v": 1,
        "now": 1_800_000_000,
        "request_id": "r1",
        "action": "batch",
        "principal": ANN,
    }
    asked = [{"store": "vs_1", "chunk": chunk} for chunk in chunks]
    return (
        common
        | {"stores": {"vs_1": STORE}, "chunks": asked, "items": [], "tool_results": [], "models": []}
        | more
    )


def different(count: int) -> list[Json]:
    """Stamps of which every third may be read."""
    return [{**STAMP, "owner": f"u{number}", "level": number % 3 + 1} for number in range(count)]


class Noting:
    """Passes everything on to an engine, and notes what is asked of it."""

    def __init__(self, inner: PolicyEngine) -> None:
        self.inner = inner
        self.asked: list[Any] = []

    async def ask(self, rule: str, document: JsonObject) -> Answer:
        self.asked.append(document)
        return await self.inner.ask(rule, document)

    async def plan(self, rule: str, document: JsonObject, *, unknown: str) -> Planned:
        return await self.inner.plan(rule, document, unknown=unknown)

    async def revision(self) -> str:
        return await self.inner.revision()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shipped() -> AsyncIterator[OpaEngine]:
    async with running_opa(
        REGO, schemas={"chunk": load_schema(REGO / "schemas" / "chunk.json")}, deadline_s=10
    ) as engine:
        yield engine


@pytest.fixture
def noting(shipped: OpaEngine) -> Noting:
    return Noting(shipped)


def positions(answer: Answer) -> list[int]:
    assert isinstance(answer.value, dict)
    return sorted(answer.value["chunks"])


# ---------------------------------------------------------------- the same answer


@pytest.mark.parametrize("split_from", [2, 7, 1_000])
async def test_answer_is_that_of_the_whole_question(noting: Noting, split_from: int) -> None:
    source = random.Random(split_from)
    engine = BatchingEngine(noting, split_from=split_from)
    both: set[bool] = set()
    for size in (0, 1, 2, 3, 6, 7, 8, 40):
        chunks = source.choices(different(12), k=size)
        asked = batch(*chunks, items=[{"tenant": "acme", "owner": "ann", "labels": []}], models=["small"])
        whole, answer = await noting.inner.ask(RULE, asked), await engine.ask(RULE, asked)
        both |= {position in positions(whole) for position in range(size)}

        assert positions(answer) == positions(whole)
        assert isinstance(answer.value, dict)
        assert isinstance(whole.value, dict)
        assert {**answer.value, "chunks": []} == {**whole.value, "chunks": []}
        assert (answer.defined, answer.revision) == (True, whole.revision)
    assert both == {True, False}


ITEM: Final[JsonObject] = {
    "id": "m",
    "kind": "message",
    "tenant": "acme",
    "labels": [],
    "created": 1,
    "policy_revision": "r",
}
ROW: Final[JsonObject] = {**OPEN, "roles": [], "projects": [], "namespaces": [], "labels": []}
TOOL: Final[JsonObject] = {
    "type": "function",
    "server_label": "",
    "name": "f",
    "arguments": {},
    "side_effect": False,
}


def of_every_kind(size: int) -> dict[str, Json]:
    """As many members of each kind, of which OPA admits some and not others, and of chunks none that
    is like another.
    """
    rows: list[Json] = [{**ROW, "id": f"r{number}", "level": number % 3} for number in range(size)]
    items: list[Json] = [{**ITEM, "owner": "ann" if number % 4 else "bob"} for number in range(size)]
    stores: dict[str, Json] = {
        f"vs_{number}": {**ROW, "id": f"vs_{number}", "level": number % 3} for number in range(size)
    }
    chunks: list[Json] = [
        {"store": f"vs_{number * 7 % size}", "chunk": chunk} for number, chunk in enumerate(different(size))
    ]
    results: list[Json] = [
        {"tool": TOOL, "result": {"mime": "", "size": number % 2 * 10**9 + number, "labels": []}}
        for number in range(size)
    ]
    lists: dict[str, Json] = {
        "listed_files": rows,
        "listed_prompts": rows,
        "listed_stores": rows,
        "listed_responses": items,
    }
    models: list[Json] = [f"m{number}" for number in range(size)]
    return (
        batch()
        | {"stores": stores, "chunks": chunks, "items": items, "tool_results": results, "models": models}
        | lists
    )


KINDS: Final = tuple(kind.name for kind in batches.KINDS if kind.name != "stores")
"""All but the stores, which each part has as its chunks need them."""


def sets(answer: Answer) -> dict[str, set[Any]]:
    assert isinstance(answer.value, dict)
    return {name: set(members) for name, members in answer.value.items()}


@pytest.mark.parametrize(("split_from", "most"), [(2, 1), (2, 10), (3, 25), (12, 40), (13, 40), (2, 10_000)])
async def test_answer_about_every_kind_is_that_of_the_whole_question(
    noting: Noting, split_from: int, most: int
) -> None:
    asked = of_every_kind(12)
    whole = await noting.inner.ask(RULE, asked)
    answer = await BatchingEngine(noting, split_from=split_from, most=most).ask(RULE, asked)

    assert sets(answer) == sets(whole)
    assert (answer.revision, len(noting.asked) > 1) == (whole.revision, split_from <= 12)
    assert all(0 < len(admitted) < 12 for name, admitted in sets(whole).items() if name != "models")


async def test_no_question_has_more_members_than_opa_answers_in_time(noting: Noting) -> None:
    items: list[Json] = [{**ITEM, "owner": f"u{number}"} for number in range(100)]
    await BatchingEngine(noting, most=30).ask(RULE, batch(items=items))
    await BatchingEngine(noting, split_from=5, most=60).ask(RULE, of_every_kind(40))
    sizes = [sum(len(document[kind]) for kind in KINDS if kind in document) for document in noting.asked]

    assert sizes[:4] == [25] * 4
    assert (len(sizes[4:]), max(sizes[4:]) <= 60 + len(KINDS), sum(sizes[4:])) == (6, True, len(KINDS) * 40)


async def test_part_knows_the_stores_of_its_chunks_and_no_others(noting: Noting) -> None:
    asked = {**of_every_kind(12), **{name: [] for name in ("items", "tool_results", "models")}}
    await BatchingEngine(noting, split_from=13, most=1_000).ask(RULE, asked)
    await BatchingEngine(noting, split_from=12, most=1_000).ask(
        RULE, {name: asked[name] for name in (*batch(), "stores", "chunks")}
    )
    first, second = noting.asked[-2:]

    for part in (first, second):
        assert {entry["store"] for entry in part["chunks"]} <= part["stores"].keys()
    assert [len(part["chunks"]) for part in (first, second)] == [6, 6]
    assert len(second["stores"]) < 12


async def test_what_is_the_same_is_asked_once(noting: Noting) -> None:
    one, other, *_ = different(2)
    answer = await BatchingEngine(noting).ask(RULE, batch(one, other, one, one))
    (asked,) = noting.asked

    assert [entry["chunk"] for entry in asked["chunks"]] == [one, other]
    assert positions(answer) == [0, 2, 3]


@pytest.mark.parametrize("split_from", [2, 1_000])
async def test_results_that_are_the_same_to_a_policy_are_asked_once(noting: Noting, split_from: int) -> None:
    fits, large = ({"tool": TOOL, "result": {"mime": "", "size": size, "labels": []}} for size in (1, 10**9))
    asked = batch(STAMP, tool_results=[fits, large, fits, fits, large])
    whole = await noting.inner.ask(RULE, asked)
    answer = await BatchingEngine(noting, split_from=split_from).ask(RULE, asked)

    assert [one for part in noting.asked for one in part.get("tool_results", ())] == [fits, large]
    assert isinstance(answer.value, dict)
    assert isinstance(whole.value, dict)
    assert sorted(answer.value["tool_results"]) == sorted(whole.value["tool_results"]) == [0, 2, 3]


async def test_same_stamp_in_two_stores_is_two_questions(noting: Noting) -> None:
    asked = batch(STAMP) | {
        "chunks": [{"store": store, "chunk": STAMP} for store in ("vs_1", "vs_unknown", "vs_1")]
    }

    assert positions(await BatchingEngine(noting).ask(RULE, asked)) == [0, 2]


async def test_one_and_true_are_two_levels(noting: Noting) -> None:
    levels = (1, 1.0, True, "1")
    await BatchingEngine(noting).ask(RULE, batch(*({**STAMP, "level": level} for level in levels)))
    (asked,) = noting.asked

    assert len(asked["chunks"]) == 4


async def test_large_batch_is_asked_in_two_questions_and_everything_else_in_the_first_alone(
    noting: Noting,
) -> None:
    others: dict[str, Json] = {
        "items": [{"tenant": "acme", "owner": "ann", "labels": []}],
        "tool_results": [],
        "models": ["small"],
    }
    answer = await BatchingEngine(noting, split_from=5).ask(RULE, batch(*different(5), **others))
    first, second = noting.asked

    assert (len(first["chunks"]), len(second["chunks"])) == (3, 2)
    assert ({name: first[name] for name in others}, others.keys() & second.keys()) == (others, set())
    assert isinstance(answer.value, dict)
    assert (positions(answer), answer.value["items"], answer.value["models"]) == ([0, 3], [0], ["small"])


async def test_anything_but_a_batch_of_chunks_is_passed_on_as_it_is(noting: Noting) -> None:
    engine = BatchingEngine(noting, split_from=2)
    chunks = batch(*different(4))
    single: JsonObject = {
        **batch(),
        "action": "chunk.read",
        "store": STORE,
        "chunk": STAMP,
        "chunks": chunks["chunks"],
    }
    odd: JsonObject = {**chunks, "chunks": {"0": STAMP}}
    await engine.ask("regate/chunk/allow", single)
    await engine.ask("regate/lib/batch/chunk_reasons", chunks)
    await engine.ask(RULE, odd)
    planned = await engine.plan("regate/chunk/allow", {**single, "chunks": []}, unknown="chunk")

    assert noting.asked == [single, chunks, odd]
    assert isinstance(planned.plan, Matching)
    assert await engine.revision() == planned.revision


# ---------------------------------------------------------------- never less than an answer

ODD: Final = "package regate.lib.batch\n\nadmitted := input.answer\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def odd(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OpaEngine]:
    """An OPA whose batch rule says what the input tells it to."""
    async with running_opa(
        write_policies(tmp_path_factory.mktemp("odd"), {"lib/batch/batch.rego": ODD}), deadline_s=10
    ) as engine:
        yield engine


@pytest.mark.parametrize("split_from", [2, 1_000])
@pytest.mark.parametrize(
    "told", [True, {}, *({"chunks": chunks} for chunks in (1, [9], [-1], [True], ["0"], [0, 0]))], ids=str
)
async def test_answer_of_another_shape_is_no_answer(odd: OpaEngine, told: Json, split_from: int) -> None:
    one, other = different(2)
    with pytest.raises(PolicyUnavailable) as failure:
        await BatchingEngine(odd, split_from=split_from).ask(RULE, batch(one, other, one, answer=told))

    assert "chunks is not a set" in failure.value.detail


@pytest.mark.parametrize("told", [1, ["x"], [0], [["m0"]], [True]], ids=str)
async def test_names_that_were_not_asked_about_are_no_answer(odd: OpaEngine, told: Json) -> None:
    with pytest.raises(PolicyUnavailable) as failure:
        await BatchingEngine(odd, split_from=2).ask(RULE, batch(models=["m0", "m1"], answer={"models": told}))

    assert "models is not a set" in failure.value.detail


@pytest.mark.parametrize("split_from", [2, 1_000])
async def test_undefined_stays_undefined(odd: OpaEngine, split_from: int) -> None:
    one, other = different(2)
    answer = await BatchingEngine(odd, split_from=split_from).ask(RULE, batch(one, other, one))

    assert (answer.defined, answer.value) == (False, None)


@pytest.mark.parametrize("split_from", [2, 1_000])
async def test_stamp_that_is_not_json_is_refused(noting: Noting, split_from: int) -> None:
    with pytest.raises(PolicyUnavailable) as failure:
        await BatchingEngine(noting, split_from=split_from).ask(
            RULE, batch(STAMP, {**STAMP, "owner": "\ud800"})
        )

    assert ("not JSON" in failure.value.detail, noting.asked) == (True, [])


async def test_half_without_an_answer_leaves_no_answer(noting: Noting) -> None:
    asked = batch(*different(4), request_id=2**70)  # the client has no JSON for an integer beyond 64 bits
    with pytest.raises(PolicyUnavailable):
        await BatchingEngine(noting, split_from=2).ask(RULE, asked)

    assert len(noting.asked) == 2


class Between:
    """Passes everything on; before the second question the policy changes, as it may at any time."""

    def __init__(self, inner: PolicyEngine, policies: Path) -> None:
        self.inner = inner
        self.policies = policies
        self.asked: list[JsonObject] = []
        self.first = asyncio.Event()

    async def ask(self, rule: str, document: JsonObject) -> Answer:
        self.asked.append(document)
        if len(self.asked) == 2:
            await self.first.wait()
            before = await self.inner.revision()
            write_policies(self.policies, {"lib/batch/batch.rego": EVERY})
            until = time.monotonic() + 60
            while await self.inner.revision() == before:
                assert time.monotonic() < until
        answer = await self.inner.ask(rule, document)
        self.first.set()
        return answer

    async def plan(self, rule: str, document: JsonObject, *, unknown: str) -> Planned:
        return await self.inner.plan(rule, document, unknown=unknown)

    async def revision(self) -> str:
        return await self.inner.revision()


NONE: Final = 'package regate.lib.batch\n\nadmitted := {"chunks": set()}\n'
EVERY: Final = 'package regate.lib.batch\n\nadmitted := {"chunks": {i | some i, _ in input.chunks}}\n'


async def test_halves_decided_by_two_policies_are_never_put_together(tmp_path: Path) -> None:
    policies = write_policies(tmp_path / "changing", {"lib/batch/batch.rego": NONE})
    async with running_opa(policies, deadline_s=10) as inner:
        engine = Between(inner, policies)
        answer = await BatchingEngine(engine, split_from=2).ask(RULE, batch(*different(4)))

        assert (positions(answer), answer.revision) == ([0, 1, 2, 3], await inner.revision())
    assert len(engine.asked) == 3
