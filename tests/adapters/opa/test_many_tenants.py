"""What operators say of tenants: a decision costs the same however many tenants it is said of."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest

from regate_adapters.opa.engine import OpaEngine
from regate_adapters.testing.opa import running_opa
from regate_gateway.workbench.directory import shipped_policies
from regate_orchestrator.authz.points import ROWS
from regate_orchestrator.filters.schema import load_schema
from regate_orchestrator.principal import Principal
from regate_orchestrator.values import JsonObject

FEW, MANY = 1, 20_000
ROUNDS: Final = 20
MOST: Final = 5
"""Times. Documents of so many tenants took 25 times as long when they were read whole."""
PATIENT_SECONDS: Final = 60
ASKED: Final = {
    "regate/quota/limits": "quota.limits",
    "regate/quota/storage": "quota.storage",
    "regate/file/limits": "file.upload",
}


def policies_for(folder: Path, tenants: int) -> Path:
    """The shipped policies, with limits for each of so many tenants."""
    shutil.copytree(shipped_policies(), folder)
    said = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    limits = {"quotas": {"rpm": 7}, "file_limits": {"max_files": 7}, "storage_limits": {"max_bytes": 7}}
    for document, limit in limits.items():
        said["regate"][document]["tenants"] = {f"t{number}": limit for number in range(tenants)}
    (folder / "data.json").write_text(json.dumps(said), encoding="utf-8")
    return folder


@pytest.fixture
async def engines(tmp_path: Path) -> AsyncIterator[list[OpaEngine]]:
    """Two OPAs, for few tenants and for many."""
    async with AsyncExitStack() as stack:
        made = []
        for tenants in (FEW, MANY):
            policies = policies_for(tmp_path / str(tenants), tenants)
            schemas = {kind: load_schema(policies / "schemas" / f"{kind}.json") for kind in ROWS}
            opa = running_opa(policies, schemas=schemas, deadline_s=PATIENT_SECONDS)
            made.append(await stack.enter_async_context(opa))
        yield made


@pytest.mark.parametrize("rule", ASKED)
async def test_limits_of_a_tenant_are_looked_up_and_not_looked_for(
    rule: str, engines: list[OpaEngine]
) -> None:
    asked: JsonObject = {
        "v": 1,
        "now": 1,
        "action": ASKED[rule],
        "principal": Principal("ann", "t0").as_input(),
        "request": {"method": "POST", "route": "/v1/responses", "model": "m"},
    }
    quickest, answers = [float("inf")] * 2, [None, None]
    for _ in range(ROUNDS):
        for which, engine in enumerate(engines):
            began = time.perf_counter()
            answers[which] = (await engine.ask(rule, asked)).value
            quickest[which] = min(quickest[which], time.perf_counter() - began)

    assert answers[0] == answers[1]
    assert 7 in dict(answers[1] or {}).values()
    assert quickest[1] < MOST * quickest[0]
