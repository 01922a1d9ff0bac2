"""What is refused where policies are loaded, so that no filter is wider than its rule: each member is
shown to be wide by a real OPA, and refused.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from tests.adapters.opa.acceptance_cases import MORE, REFUSED, SERVED, WIDE
from tests.adapters.opa.policies import write_policies
from tests.patience import wait_patiently

from regate_adapters.opa.acceptance.findings import Finding
from regate_adapters.opa.acceptance.judging import authoring_findings
from regate_adapters.opa.acceptance.nodes import Node
from regate_adapters.opa.acceptance.reach import FILTERS
from regate_adapters.opa.acceptance.reading import NotParsed, parsed_by_command, parsed_by_server
from regate_adapters.opa.acceptance.syntax import Policies, modules_of
from regate_adapters.opa.client import OpaClient
from regate_adapters.opa.engine import OpaEngine
from regate_adapters.testing.opa import RunningOpa, running_opa
from regate_orchestrator.errors import FilterNotExpressible
from regate_orchestrator.filters.evaluate import holds
from regate_orchestrator.filters.expression import expression_of
from regate_orchestrator.filters.schema import FieldSpec, RowSchema, load_schema
from regate_orchestrator.values import JsonObject

wait_patiently()

REGO: Final = Path(__file__).parents[3] / "rego"

PRINCIPAL: Final[JsonObject] = {
    "id": "ann", "tenant": "acme", "teams": ["hr", "eng"], "roles": [], "projects": [], "namespaces": [],
        "scopes": [], "clearance": 1,
    "attrs": {"kind": "x", "level": 1},
}  # fmt: skip
ROWS: Final = [
    {"owner": owner, "tenant": tenant, "labels": list(labels)}
    for owner, tenant, labels in itertools.product(
        ("bob", "eve", "hr"), ("acme", "globex"), ([], ["pii"], ["pii", "secret"])
    )
]


@dataclass(frozen=True)
class Case:
    """One text of the tables: what is expected, and the module."""

    line: int
    code: str
    body: str

    def module(self, package: str, row: str) -> str:
        return f"package {package}\n\n{self.body}".replace("ROW", f"input.{row}").replace("HERE", package)


def read(text: str) -> Case:
    said, _, body = text.partition("|")
    line, _, code = said.partition(" ")
    return Case(int(line), code, body)


CASES: Final = {name: read(text) for name, text in {**WIDE, **REFUSED, **SERVED}.items()}


@dataclass(frozen=True)
class Parsed:
    """The shipped policies, and each case as a team's own rules beside them, parsed."""

    shipped: Mapping[str, Node]
    schemas: Mapping[str, RowSchema]
    custom: Mapping[tuple[str, str], dict[str, Node]]

    def findings(self, point: str, name: str) -> list[Finding]:
        trees = {**self.shipped, **self.custom[point, name]}
        return authoring_findings(Policies(modules_of(trees)), self.schemas)


@pytest.fixture(scope="module")
def parsed(opa: Path) -> Parsed:
    shipped = {
        path.relative_to(REGO).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(REGO.rglob("*.rego"))
    }
    texts: dict[str, str] = dict(shipped)
    files: dict[tuple[str, str], dict[str, str]] = {}
    for number, (made, (name, case)) in enumerate(itertools.product(FILTERS, CASES.items())):
        point, package = made.package[-1], f"regate.custom.{made.package[-1]}"
        more = MORE.replace("data.HERE", package).replace("ROW", made.row)
        own = {f"custom/{point}/{point}.rego": case.module(package, made.unknown)} | (
            {f"custom/{point}/more.rego": more} if "library" in name and "import data" in case.body else {}
        )
        files[point, name] = {file: f"{number}/{file}" for file in own}
        texts |= {f"{number}/{file}": text for file, text in own.items()}
    trees = parsed_by_command(opa, texts)
    custom = {key: {file: trees[stored] for file, stored in own.items()} for key, own in files.items()}
    schemas = {made.unknown: load_schema(REGO / "schemas" / f"{made.unknown}.json") for made in FILTERS}
    return Parsed({name: trees[name] for name in shipped}, schemas, custom)


# ---------------------------------------------------- refused, and served


@pytest.mark.parametrize("point", [made.package[-1] for made in FILTERS])
@pytest.mark.parametrize("name", [*WIDE, *REFUSED])
def test_what_may_widen_a_filter_is_refused_at_every_point_with_rule_and_line(
    parsed: Parsed, point: str, name: str
) -> None:
    case = CASES[name]

    found = parsed.findings(point, name)

    assert {one.file for one in found} == {f"custom/{point}/{point}.rego"}
    # The trees of this table know where rules begin; the line within one is
    # `tests/gateway/workbench/test_authoring.py`'s.
    begins = max(row for row in rows_of(case) if row <= case.line)
    assert (begins, case.code) in {(one.row, one.code) for one in found}


def rows_of(case: Case) -> list[int]:
    lines = case.module("p", "x").splitlines()
    return [
        row
        for row, line in enumerate(lines, start=1)
        if line and line[0] not in "\t}" and not line.startswith(("package", "import"))
    ]


@pytest.mark.parametrize("point", [made.package[-1] for made in FILTERS])
@pytest.mark.parametrize("name", SERVED)
def test_what_cannot_fail_is_served_at_every_point(parsed: Parsed, point: str, name: str) -> None:
    assert parsed.findings(point, name) == []


def test_a_rule_is_found_by_whichever_head_it_is_written(opa: Path) -> None:
    texts = {
        "chunk.rego": (
            "package regate.chunk\n\ndefault allow := false\n\nallow if not data.regate.custom.chunk.deny\n"
        ),
        "a.rego": (
            "package regate\n\nchunk.allow if input.chunk == 1\n\ncustom.chunk.deny if "
            "f(input.chunk.owner)\n\nf(x) if x == 1\n"
        ),
    }

    found = authoring_findings(Policies(modules_of(parsed_by_command(opa, texts))), {})

    assert [(one.file, one.row, one.code) for one in found] == [
        ("a.rego", 3, "whole-row"),
        ("a.rego", 5, "no-functions"),
    ]


# ---------------------------------------------------- the witness: without the check the filter is wider


@pytest.fixture(scope="module")
def witnesses(tmp_path_factory: pytest.TempPathFactory) -> RunningOpa:
    """An OPA with each case in a package that no filter of the gateway is made of, so that nothing is
    refused.
    """
    files = {"more.rego": "package regate.nothing\n\nx := 1\n"}
    for number, case in enumerate(CASES.values()):
        package = f"regate.witness.w{number:02}"
        files[f"w{number}.rego"] = (
            case.module(package, "row") + "\nallow if {\n\tinput.row.tenant\n\tnot deny\n}\n"
        )
        files[f"m{number}.rego"] = MORE.replace("data.HERE", package).replace("ROW", "input.row")
    return running_opa(
        write_policies(tmp_path_factory.mktemp("witnesses"), files), schemas={"row": SCHEMA}, deadline_s=30
    )


SCHEMA: Final = RowSchema(
    "row",
    {
        name: FieldSpec(name, kind, required=True)
        for name, kind in (("owner", "string"), ("tenant", "string"), ("labels", "list"))
    },  # type: ignore[arg-type]
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def witness(witnesses: RunningOpa) -> AsyncIterator[OpaEngine]:
    async with witnesses as engine:
        yield engine


async def compared(engine: OpaEngine, running: RunningOpa, name: str) -> tuple[set[int], set[int]]:
    """Return which rows the case's filter lets through, and which full evaluation allows; an error of
    that is a denial.
    """
    rule = f"regate/witness/w{list(CASES).index(name):02}/allow"
    asked: JsonObject = {
        "v": 1,
        "now": 1000,
        "request_id": "r",
        "action": "store.list",
        "principal": PRINCIPAL,
    }
    expression = expression_of((await engine.plan(rule, asked, unknown="row")).plan)
    allowed: set[int] = set()
    async with OpaClient(running.process.address, deadline_s=30) as client:
        for number, row in enumerate(ROWS):
            reply = await client.post(
                f"/v1/data/{rule}?strict-builtin-errors=true", {"input": {**asked, "row": row}}
            )
            if reply.status == 200 and json.loads(reply.body).get("result") is True:
                allowed.add(number)
    return {number for number, row in enumerate(ROWS) if holds(expression, row)}, allowed


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", WIDE)
async def test_without_the_check_the_filter_would_be_wider(
    witness: OpaEngine, witnesses: RunningOpa, name: str
) -> None:
    filtered, allowed = await compared(witness, witnesses, name)

    assert filtered > allowed


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", SERVED)
async def test_what_is_served_has_a_filter_that_is_its_rule(
    witness: OpaEngine, witnesses: RunningOpa, name: str
) -> None:
    filtered, allowed = await compared(witness, witnesses, name)

    assert filtered == allowed


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", REFUSED)
async def test_what_else_is_refused_has_no_wider_filter_than_its_rule(
    witness: OpaEngine, witnesses: RunningOpa, name: str
) -> None:
    try:
        filtered, allowed = await compared(witness, witnesses, name)
    except FilterNotExpressible:
        return

    assert filtered <= allowed


# ---------------------------------------------------- trees


def places(tree: Node) -> list[Any]:
    return [rule.get("location", {}).get("row") for rule in tree.get("rules") or ()]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_running_opa_and_its_command_line_read_policies_alike(
    witness: OpaEngine, witnesses: RunningOpa, opa: Path
) -> None:
    texts = {
        path.relative_to(REGO).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(REGO.rglob("*.rego"))
    }
    async with OpaClient(witnesses.process.address, deadline_s=60) as client:
        served = await parsed_by_server(client, texts)

    assert served == parsed_by_command(opa, texts)
    assert all(None not in places(tree) for tree in served.values())


ODD = """package odd

import data.regate.lib.labels # default allow

default allow :=
	false

x := `
default allow := true
` # (

allow if { # {
	x == "}" ; y
}

y if { true } else := false

default f(_) := 1

f(z) := z if {
	z > 1
}

set contains e if some e in [
	"y",
]

y if input.y
"""


def test_the_line_of_a_rule_is_found_whatever_stands_around_it(opa: Path) -> None:
    assert places(parsed_by_command(opa, {"odd.rego": ODD})["odd.rego"]) == [5, 8, 12, 16, 18, 20, 24, 28]


def test_what_does_not_parse_is_told_with_its_line(opa: Path) -> None:
    with pytest.raises(NotParsed, match=r"bad\.rego:3"):
        parsed_by_command(opa, {"good.rego": "package good\n", "bad.rego": "package bad\n\nallow if ]\n"})


@pytest.mark.asyncio(loop_scope="module")
async def test_what_a_running_opa_does_not_parse_is_told(witness: OpaEngine, witnesses: RunningOpa) -> None:
    async with OpaClient(witnesses.process.address, deadline_s=60) as client:
        with pytest.raises(NotParsed, match=r"bad\.rego"):
            await parsed_by_server(
                client, {"good.rego": "package good\n", "bad.rego": "package bad\n\nallow if ]\n"}
            )
