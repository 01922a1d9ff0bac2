"""The proof by trial: random policies on random rows, the translated filter against full evaluation by OPA.

Two universes. In the first nothing is promised of rows: fields are missing, null, or of the wrong type, and
no schema is known. In the second rows conform to a schema with optional fields, and the grammar has what
partial evaluation makes ambiguous; there the translator may refuse, but what it accepts must agree. Grammar
and rows are those of the larger proof, `regate_adapters.testing.proof.__main__`.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Final

import pytest
import pytest_asyncio
from tests.adapters.opa.policies import write_policies

from regate_adapters.opa.engine import OpaEngine
from regate_adapters.opa.residual import NotUnderstood
from regate_adapters.testing.opa import RunningOpa, running_opa
from regate_adapters.testing.proof.grammar import Form, Grammar
from regate_adapters.testing.proof.rows import SCHEMA, any_row, some_principal, typed_row
from regate_orchestrator.filters.evaluate import holds
from regate_orchestrator.filters.expression import expression_of

SEED: Final = 20_261_123
POLICIES: Final = 150
ROWS: Final = 60


def package(number: int) -> str:
    return f"regate.fuzz.p{number:03}"


def modules(*, typed: bool) -> dict[str, str]:
    forms: frozenset[Form] = frozenset({"ambiguous"}) if typed else frozenset()
    grammars = {
        number: Grammar(SEED + number, modern=number % 2 == 1, forms=forms) for number in range(POLICIES)
    }
    return {
        f"fuzz/p{number:03}.rego": grammar.policy().module(package(number))
        for number, grammar in grammars.items()
    }


def universe(folder: pytest.TempPathFactory, *, typed: bool) -> RunningOpa:
    directory = write_policies(folder.mktemp("fuzz"), modules(typed=typed))
    return running_opa(directory, schemas={"chunk": SCHEMA} if typed else {}, deadline_s=10)


@pytest_asyncio.fixture
async def untyped(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OpaEngine]:
    async with universe(tmp_path_factory, typed=False) as engine:
        yield engine


@pytest_asyncio.fixture
async def typed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OpaEngine]:
    async with universe(tmp_path_factory, typed=True) as engine:
        yield engine


async def disagreements(engine: OpaEngine, *, typed: bool) -> tuple[list[str], int]:
    """Return where filter and full evaluation differ, in words that reproduce it, and how many
    policies were accepted.
    """
    texts = list(modules(typed=typed).values())
    source = random.Random(SEED)
    found: list[str] = []
    accepted = 0
    for number, text in enumerate(texts):
        rows = [typed_row(source) if typed else any_row(source) for _ in range(ROWS)]
        principal = some_principal(source)
        rule = package(number).replace(".", "/")
        try:
            planned = await engine.plan(f"{rule}/allow", {"principal": principal}, unknown="chunk")
        except NotUnderstood as refusal:
            if not typed:
                found.append(f"seed {SEED}, policy {number} refused: {refusal.detail}\n{text}")
            continue
        accepted += 1
        answer = await engine.ask(f"{rule}/admitted", {"principal": principal, "rows": rows})
        assert isinstance(answer.value, list)
        expression = expression_of(planned.plan)
        for position, row in enumerate(rows):
            if holds(expression, row) != (position in answer.value):
                found.append(
                    f"seed {SEED}, policy {number}, filter {expression}, principal {principal}, row "
                    f"{row}\n{text}"
                )
    print(f"seed {SEED}: {accepted} of {len(texts)} policies accepted, {accepted * ROWS} decisions")
    return found, accepted


async def test_filter_admits_exactly_what_full_evaluation_admits_however_dirty_the_rows(
    untyped: OpaEngine,
) -> None:
    found, _ = await disagreements(untyped, typed=False)

    assert not found, found[0]


async def test_filter_agrees_wherever_it_is_accepted_when_fields_may_be_missing(typed: OpaEngine) -> None:
    found, accepted = await disagreements(typed, typed=True)

    assert not found, found[0]
    assert accepted > POLICIES // 3
