"""The proof by trial: random policies on random rows, the translated filter against full evaluation by OPA.

Two universes. In the first nothing is promised of rows: fields are missing, null, or of the wrong type, and no schema is known. In the
second rows conform to a schema with optional fields, and the grammar has what partial evaluation makes ambiguous; there the translator
may refuse, but what it accepts must agree.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Mapping
from typing import Final, NamedTuple

import pytest
import pytest_asyncio
from tests.adapters.opa.policies import write_policies

from regate_adapters.opa.engine import OpaEngine
from regate_adapters.opa.residual import NotUnderstood
from regate_adapters.testing.opa import RunningOpa, running_opa
from regate_orchestrator.filters import expression_of
from regate_orchestrator.meaning import holds
from regate_orchestrator.schema import FieldSpec, RowSchema
from regate_orchestrator.values import Json, JsonObject

SEED: Final = 20_261_123
POLICIES: Final = 150
ROWS: Final = 60

SCALARS: Final = {
    "tenant": ["acme", "globex", "ACME"],
    "region": ["eu", "us", ""],
    "level": [0, 1, 2, 2.5, 3],
    "score": [0, 1, 2, 7],
    "hold": [True, False],
}
LISTS: Final = {"teams": ["hr", "eng", "ops"], "labels": ["pii", "secret"]}
STRANGE: Final[list[Json]] = [None, True, False, 0, 2, "acme", "", [], ["hr"], {"k": "hr"}, {"k": {"n": 1}}, "2"]

SCHEMA: Final = RowSchema(
    "chunk",
    {
        "tenant": FieldSpec("tenant", "string", required=True),
        "level": FieldSpec("level", "number", required=True),
        "teams": FieldSpec("teams", "list", required=True),
        "hold": FieldSpec("hold", "boolean", required=True),
        "region": FieldSpec("region", "string", required=False),
        "score": FieldSpec("score", "number", required=False),
        "labels": FieldSpec("labels", "list", required=False),
    },
)


class Grammar:
    """Writes random chunk rules of one dialect: classic Rego, or the one in which `not` is a plain complement."""

    def __init__(self, seed: int, *, modern: bool, typed: bool) -> None:
        self._random = random.Random(seed)
        self._modern = modern
        self._typed = typed
        self._locals = 0

    def module(self, package: str) -> str:
        """Return a module with an `allow`, helpers, and a rule that evaluates it in full for each of `input.rows`."""
        rules = ["import rego.v2"] if self._modern else []
        helpers: list[str] = []
        for name in ("one", "two"):
            if self._random.random() < 0.3:
                rules.append(f"default {name} := false")
            rules += [self._rule(name, helpers) for _ in range(self._random.randint(1, 2))]
            helpers.append(name)
        rules += [self._rule("allow", helpers) for _ in range(self._random.randint(1, 2))]
        full = 'with input as {"principal": input.principal, "chunk": row}\n}'
        rules.append(f"admitted contains i if {{\n\tsome i, row in input.rows\n\tdata.{package}.allow == true {full}")
        return f"package {package}\n\n" + "\n\n".join(rules) + "\n"

    def _rule(self, name: str, helpers: list[str]) -> str:
        conditions = [self._condition(helpers) for _ in range(self._random.randint(1, 3))]
        return f"{name} if {{\n\t" + "\n\t".join(conditions) + "\n}"

    def _condition(self, helpers: list[str]) -> str:
        kinds = [self._atom] * 6 + [self._negated] * 2 + [self._membership] * 3
        if helpers:
            kinds += [lambda: self._random.choice(("", "not ")) + self._random.choice(helpers)] * 3
        if self._modern:
            kinds += [self._junction, self._negated_body]
        if self._typed:
            kinds += [self._local, self._text, self._element]
        return self._random.choice(kinds)()

    def _atom(self) -> str:
        name, operator = self._scalar(), self._operator()
        field, constant = f"input.chunk.{name}", self._constant(name)
        forms = [
            f"{field} {operator} {constant}",
            f"{constant} {operator} {field}",
            f"{field} in [{constant}, {self._constant(name)}]",
            f"{field} in {{{constant}}}",
            field,
            f"{field} {operator} {self._other_field(name)}",
            f"input.chunk.level {operator} input.principal.clearance",
            f'{{"eu": 1, "us": 2}}[input.chunk.region] <= {self._random.randint(0, 2)}',
            f"every x in [{constant}, {self._constant(name)}] {{ {field} != x }}",
            f"input.principal.clearance {operator} 1",
        ]
        if self._typed:
            forms.append(f"{field} = _")  # OPA drops it beside a negated test of the same field
        return self._random.choice(forms)

    def _membership(self) -> str:
        self._locals += 1
        name, item = self._list(), f"item{self._locals}"
        constant = json.dumps(self._random.choice(LISTS[name]))
        forms = [
            f"{constant} in input.chunk.{name}",
            f"input.chunk.{name}[_] == {constant}",
            f"some {item} in input.chunk.{name}\n\t{item} in input.principal.teams",
            f"some {item} in input.principal.teams\n\t{item} in input.chunk.{name}",
            f"some {item} in input.chunk.{name}\n\t{item} == {constant}",
            f"some {item} in input.chunk.{name}",
            f"input.chunk.{name}",
        ]
        return self._random.choice(forms)

    def _negated(self) -> str:
        name, list_name = self._scalar(), self._list()
        field, constant = f"input.chunk.{name}", self._constant(name)
        forms = [
            f"not {field} {self._operator()} {constant}",
            f"not {field} in [{constant}]",
            f"not {field}",
            f"not {json.dumps(self._random.choice(LISTS[list_name]))} in input.chunk.{list_name}",
            f"not {field} == {self._other_field(name)}",
            "not input.principal.clearance > 1",
        ]
        return self._random.choice(forms)

    def _junction(self) -> str:
        return f"{self._comparison()} {self._random.choice(('or', 'and'))} {self._comparison()}"

    def _negated_body(self) -> str:
        return f"not {{\n\t\t{self._comparison()}\n\t\t{self._membership().replace(chr(10), chr(10) + chr(9))}\n\t}}"

    def _local(self) -> str:
        self._locals += 1
        name, local = self._scalar(), f"local{self._locals}"
        tests = [f"{local} {self._operator()} {self._constant(name)}", f"not {local} {self._operator()} {self._constant(name)}"]
        return f"{local} := input.chunk.{name}\n\t" + "\n\t".join(self._random.sample(tests, self._random.randint(1, 2)))

    def _element(self) -> str:
        self._locals += 1
        name, item = self._list(), f"item{self._locals}"
        prefixes, operators = self._random.choice(((("",), ("==",)), (("", "not "), ("==", "!="))))
        tests = [f"{prefix}{item} {operator} {json.dumps(value)}" for prefix in prefixes for operator in operators for value in LISTS[name]]
        return f"some {item} in input.chunk.{name}\n\t" + "\n\t".join(self._random.sample(tests, self._random.randint(1, 2)))

    def _text(self) -> str:
        test = (
            f'{self._random.choice(("startswith", "endswith", "contains"))}(input.chunk.tenant, "{self._random.choice(("a", "me", ""))}")'
        )
        return self._random.choice(("", "not ")) + test

    def _comparison(self) -> str:
        name = self._scalar()
        return f"input.chunk.{name} {self._operator()} {self._constant(name)}"

    def _scalar(self) -> str:
        return self._random.choice(list(SCALARS))

    def _other_field(self, name: str) -> str:
        # A field compared with itself folds to a test of truth in OPA, which nothing downstream can tell.
        return "input.chunk." + self._random.choice([other for other in SCALARS if other != name])

    def _list(self) -> str:
        return self._random.choice(list(LISTS))

    def _operator(self) -> str:
        return self._random.choice(("==", "!=", "<", "<=", ">", ">="))

    def _constant(self, name: str) -> str:
        return json.dumps(self._random.choice(SCALARS[name]))


class Universe(NamedTuple):
    """How rows are made, and which schema is known of them."""

    name: str
    schemas: Mapping[str, RowSchema]
    engine: OpaEngine


def any_row(source: random.Random) -> JsonObject:
    """Return a row of which nothing is promised."""
    row: dict[str, Json] = {}
    for name, values in {**SCALARS, **LISTS}.items():
        chance = source.random()
        if chance < 0.15:
            continue
        if chance < 0.35:
            row[name] = source.choice(STRANGE)
        else:
            row[name] = source.sample(values, source.randint(0, len(values))) if name in LISTS else source.choice(values)
    return row


def typed_row(source: random.Random) -> JsonObject:
    """Return a row that conforms to the schema."""
    row: dict[str, Json] = {}
    for name, spec in SCHEMA.fields.items():
        if spec.required or source.random() < 0.6:
            values: list[Json] = list({**SCALARS, **LISTS}[name])
            row[name] = source.sample(values, source.randint(0, len(values))) if name in LISTS else source.choice(values)
    assert not SCHEMA.faults(row)
    return row


def package(number: int) -> str:
    return f"regate.fuzz.p{number:03}"


def modules(*, typed: bool) -> dict[str, str]:
    grammars = {number: Grammar(SEED + number, modern=number % 2 == 1, typed=typed) for number in range(POLICIES)}
    return {f"fuzz/p{number:03}.rego": grammar.module(package(number)) for number, grammar in grammars.items()}


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
    """Return where filter and full evaluation differ, in words that reproduce it, and how many policies were accepted."""
    texts = list(modules(typed=typed).values())
    source = random.Random(SEED)
    found: list[str] = []
    accepted = 0
    for number, text in enumerate(texts):
        rows = [typed_row(source) if typed else any_row(source) for _ in range(ROWS)]
        principal: JsonObject = {"teams": source.sample(LISTS["teams"], source.randint(0, 3)), "clearance": source.randint(0, 3)}
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
                found.append(f"seed {SEED}, policy {number}, filter {expression}, principal {principal}, row {row}\n{text}")
    print(f"seed {SEED}: {accepted} of {len(texts)} policies accepted, {accepted * ROWS} decisions")
    return found, accepted


async def test_filter_admits_exactly_what_full_evaluation_admits_however_dirty_the_rows(untyped: OpaEngine) -> None:
    found, _ = await disagreements(untyped, typed=False)

    assert not found, found[0]


async def test_filter_agrees_wherever_it_is_accepted_when_fields_may_be_missing(typed: OpaEngine) -> None:
    found, accepted = await disagreements(typed, typed=True)

    assert not found, found[0]
    assert accepted > POLICIES // 3
