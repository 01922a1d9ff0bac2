"""The example of docs/extending-policies.md, exactly as printed, laid over the shipped policies: one
added rule, a decision and a filter.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from regate_adapters.opa.engine import OpaEngine
from regate_adapters.testing.opa import running_opa
from regate_orchestrator.filters.evaluate import holds
from regate_orchestrator.filters.expression import expression_of
from regate_orchestrator.filters.schema import load_schema
from regate_orchestrator.values import Json, JsonObject

ROOT: Final = Path(__file__).parents[3]
SECTION: Final = re.compile(r"^## In ten minutes: a region$(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
STEP: Final = re.compile(
    r"^\d\. `([^`]+)`[^\n]*(?:\n[^`\n][^\n]*)*\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL
)

CHUNK: Final[dict[str, Json]] = {
    "tenant": "acme",
    "owner": "bob",
    "visibility": "attributes",
    "teams": ["eng"],
    "roles": [],
    "projects": [],
    "namespaces": [],
    "level": 1,
    "labels": [],
    "legal_hold": False,
    "embargo_until": 0,
}

shared_loop: Final = pytest.mark.asyncio(loop_scope="module")


def steps() -> dict[str, str]:
    """Return the files of the example by path."""
    section = SECTION.search((ROOT / "docs" / "extending-policies.md").read_text(encoding="utf-8"))
    assert section is not None
    return dict(STEP.findall(section.group(1)))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which somebody followed the example: `overlay/`, `tests/`, and `policy/`
    made of both `rego/` and the overlay.
    """
    folder = tmp_path_factory.mktemp("example")
    for name, text in steps().items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix == ".json":
            schema: dict[str, Any] = json.loads(
                (ROOT / "rego" / "schemas" / target.name).read_text(encoding="utf-8")
            )
            further = json.loads(text)
            schema["properties"] |= further
            schema["required"] += list(further)
            text = json.dumps(schema)
        target.write_text(text, encoding="utf-8")
    shutil.copytree(ROOT / "rego", folder / "policy")
    shutil.copytree(folder / "overlay", folder / "policy", dirs_exist_ok=True)
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(written: Path) -> AsyncIterator[OpaEngine]:
    policy = written / "policy"
    async with running_opa(
        policy, schemas={"chunk": load_schema(policy / "schemas" / "chunk.json")}, deadline_s=10
    ) as engine:
        yield engine


def asked(action: str, attrs: dict[str, Json], **resource: Json) -> JsonObject:
    lists: dict[str, Json] = {name: [] for name in ("roles", "projects", "namespaces", "scopes")}
    principal: dict[str, Json] = {
        "id": "ann",
        "tenant": "acme",
        "teams": ["eng"],
        "clearance": 2,
        "attrs": attrs,
        **lists,
    }
    return {"v": 1, "now": 1000, "request_id": "req_1", "action": action, "principal": principal, **resource}


def test_example_has_all_its_files() -> None:
    assert list(steps()) == [
        "overlay/schemas/chunk.json",
        "overlay/custom/ingest/ingest.rego",
        "overlay/custom/authn/authn.rego",
        "overlay/custom/chunk/chunk.rego",
        "tests/custom/chunk/chunk_test.rego",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "--strict", "--schema", "policy/schemas", "policy"),
        ("test", "policy", "tests", "--ignore", "schemas", "--fail-on-empty"),
        ("fmt", "--fail", "--list", "overlay", "tests"),
    ],
)
def test_what_the_example_says_to_run_passes(written: Path, opa: Path, arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [opa, *arguments], cwd=written, capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_example_test_fails_without_its_rule(written: Path, opa: Path, tmp_path: Path) -> None:
    policy = Path(shutil.copytree(written / "policy", tmp_path / "policy"))
    (policy / "custom" / "chunk" / "chunk.rego").unlink()
    arguments = [opa, "test", str(policy), str(written / "tests"), "--ignore", "schemas"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert "of another region: FAIL" in done.stdout


def test_misspelt_key_of_the_added_field_is_noticed(written: Path, opa: Path, tmp_path: Path) -> None:
    policy = Path(shutil.copytree(written / "policy", tmp_path / "policy"))
    rule = policy / "custom" / "chunk" / "chunk.rego"
    rule.write_text(
        rule.read_text(encoding="utf-8").replace("input.chunk.region", "input.chunk.regoin"), encoding="utf-8"
    )
    arguments = [opa, "check", "--strict", "--schema", str(policy / "schemas"), str(policy)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)

    assert "undefined ref: input.chunk.regoin" in done.stderr


@shared_loop
async def test_added_rule_is_obeyed_by_the_decision_by_the_batch_and_by_the_filter(engine: OpaEngine) -> None:
    changes: list[dict[str, Json]] = [
        {},
        {"owner": "ann"},
        {"visibility": "tenant"},
        {"visibility": "private"},
        {"tenant": "globex"},
    ]
    rows = [CHUNK | {"region": region} | change for region in ("eu", "us", "global") for change in changes]
    rows.append(CHUNK)  # stored before there were regions
    store: JsonObject = {"id": "vs_1", "tenant": "acme", "owner": "bob"}
    found: dict[str, list[int]] = {}
    for name, attrs in {"eu": {"region": "eu"}, "us": {"region": "us"}, "nowhere": {}}.items():
        planned = await engine.plan(
            "regate/chunk/allow", asked("chunk.read", dict(attrs), store=store), unknown="chunk"
        )
        decided = [
            await engine.ask("regate/chunk/allow", asked("chunk.read", dict(attrs), store=store, chunk=row))
            for row in rows
        ]
        chunks: list[Json] = [{"store": "vs_1", "chunk": row} for row in rows]
        batch = await engine.ask(
            "regate/lib/batch/admitted", asked("batch", dict(attrs), stores={"vs_1": store}, chunks=chunks)
        )
        assert isinstance(batch.value, dict)
        found[name] = [
            position for position, row in enumerate(rows) if holds(expression_of(planned.plan), row)
        ]
        assert (
            found[name]
            == [position for position, answer in enumerate(decided) if answer.value is True]
            == sorted(batch.value["chunks"])
        )

    assert found == {"eu": [0, 1, 2, 10, 11, 12], "us": [5, 6, 7, 10, 11, 12], "nowhere": [10, 11, 12]}


@shared_loop
async def test_added_field_is_stamped_and_conforms_to_the_laid_over_schema(
    engine: OpaEngine, written: Path
) -> None:
    file: dict[str, Json] = {
        name: CHUNK[name] for name in CHUNK if name not in ("legal_hold", "embargo_until")
    }
    file |= {"id": "file_1", "filename": "a.md", "purpose": "assistants", "owner": "ann"}
    attributes: dict[str, Json] = {"region": "eu", "tenant": "globex"}
    document: dict[str, Json] = {
        "filename": "a.md",
        "mime": "",
        "size": 1,
        "attributes": attributes,
        "requested": {},
        "file": file,
    }
    answer = await engine.ask(
        "regate/ingest/stamp", asked("ingest.document", {}, store={}, document=document)
    )
    assert isinstance(answer.value, dict)

    assert (answer.value["region"], answer.value["tenant"]) == ("eu", "acme")
    assert load_schema(written / "policy" / "schemas" / "chunk.json").faults(answer.value) == []


@shared_loop
async def test_document_of_an_unknown_region_is_rejected(engine: OpaEngine) -> None:
    file: dict[str, Json] = {
        "tenant": "acme",
        "owner": "ann",
        "visibility": "attributes",
        "level": 0,
        "labels": [],
    }
    document: dict[str, Json] = {"attributes": {"region": "moon"}, "requested": {}, "file": file}
    answer = await engine.ask(
        "regate/ingest/reject_reasons", asked("ingest.document", {}, store={}, document=document)
    )

    assert answer.value == ["denied_by_custom_rule"]


@shared_loop
async def test_principal_has_the_region_of_its_token(engine: OpaEngine) -> None:
    claims: dict[str, Json] = {"sub": "ann", "tenant": "acme", "region": "eu"}
    question: JsonObject = {
        "v": 1,
        "now": 1,
        "request_id": "r",
        "action": "authn.principal",
        "method": "jwt",
        "claims": claims,
    }
    answer = await engine.ask("regate/authn/principal", question)
    assert isinstance(answer.value, dict)

    assert answer.value["attrs"] == {"region": "eu"}


async def test_grant_and_deny_of_a_team_agree_as_filter_and_as_decision(tmp_path: Path) -> None:
    policy = Path(shutil.copytree(ROOT / "rego", tmp_path / "policy"))
    rules = policy / "custom" / "chunk" / "chunk.rego"
    rules.parent.mkdir(parents=True)
    rules.write_text(
        "package regate.custom.chunk\n\ngrant if {\n\tsome project in input.chunk.projects\n\tproject "
        "in input.principal.attrs.audits\n}\n\n"
        'deny if {\n\tinput.chunk.level > 0\n\tnot _staff\n}\n\n_staff if "staff" in input.principal.roles\n',
        encoding="utf-8",
    )
    rows: list[dict[str, Json]] = [
        CHUNK | {"level": level, "teams": teams, "projects": projects, "visibility": visibility}
        for level in (0, 1, 3)
        for teams in ([], ["eng"])
        for projects in ([], ["zeus"])
        for visibility in ("private", "attributes")
    ]
    audits: list[Json] = [f"p{number}" for number in range(300)]
    async with running_opa(
        policy, schemas={"chunk": load_schema(policy / "schemas" / "chunk.json")}, deadline_s=10
    ) as engine:
        question = asked("chunk.read", {"audits": [*audits, "zeus"]}, store={})
        planned = await engine.plan("regate/chunk/allow", question, unknown="chunk")
        decided = [
            (await engine.ask("regate/chunk/allow", question | {"chunk": row})).value is True for row in rows
        ]

    assert [holds(expression_of(planned.plan), row) for row in rows] == decided
    assert [row for row, allowed in zip(rows, decided, strict=True) if allowed] == [
        row
        for row in rows
        if row["level"] == 0 and (row["projects"] or (row["teams"] and row["visibility"] == "attributes"))
    ]
