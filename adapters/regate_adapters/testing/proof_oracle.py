"""OPA on many random policies at once: it makes the filter plans to be proven, and it is the oracle that says what they should have found.

The oracle evaluates the whole rule for each row. A builtin that meets a value of another type is undefined there, as the filter algebra
has it; the gateway's own questions are stricter and refuse such a row. Not the targets (`proof_targets.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final, Literal, TypeAlias

import orjson

from regate_adapters.opa.client import OpaClient
from regate_adapters.opa.engine import OpaEngine
from regate_adapters.testing.opa import running_opa
from regate_adapters.testing.policy_grammar import Form, RandomPolicy
from regate_adapters.testing.policy_rows import SCHEMA, any_row, typed_row
from regate_orchestrator.filters import FilterPlan
from regate_orchestrator.values import JsonObject

UniverseName: TypeAlias = Literal["dirty", "typed"]
Rows: TypeAlias = Mapping[str, JsonObject]
"""Rows by identifier."""

_DEADLINE_S: Final = 30.0
_AUTHZ: Final = """package system.authz

default allow := false

allow if input.identity == data.system.gateway_token
"""


@dataclass(frozen=True, slots=True)
class Universe:
    """What is promised of rows, how they are made, and what policies about them may be written with."""

    name: UniverseName
    forms: frozenset[Form]
    row: Callable[[Random], JsonObject]


UNIVERSES: Final[Mapping[UniverseName, Universe]] = {
    "dirty": Universe("dirty", frozenset({"beyond"}), any_row),
    "typed": Universe("typed", frozenset({"ambiguous", "beyond"}), typed_row),
}
"""`dirty`: no row schema, and rows of which nothing is promised. `typed`: rows conform to `SCHEMA`, some of whose fields are optional."""


@dataclass(frozen=True, slots=True)
class Case:
    """One policy for one principal, on rows: what a target must find exactly as the oracle does."""

    universe: UniverseName
    policy: RandomPolicy
    principal: JsonObject
    rows: Rows


class NoVerdict(Exception):
    """Full evaluation ended in an error, so no filter may have been made either."""


class Oracle:
    """One running OPA. Make with `running_oracle`; many tasks may use it at once."""

    def __init__(self, engines: Mapping[UniverseName, OpaEngine], client: OpaClient) -> None:
        self._engines = engines
        self._client = client

    async def plan(self, name: str, case: Case) -> FilterPlan:
        """Return the case's filter plan. Raises `FilterNotExpressible` when the translator refuses the policy."""
        planned = await self._engines[case.universe].plan(f"{_path(name)}/allow", {"principal": case.principal}, unknown="chunk")
        return planned.plan

    async def admitted(self, name: str, case: Case) -> frozenset[str]:
        """Return the rows for which the rule is true when each is evaluated in full. Raises `NoVerdict`."""
        document: JsonObject = {"principal": case.principal, "rows": list(case.rows.values())}
        reply = await self._client.post(f"/v1/data/{_path(name)}/admitted", {"input": document})
        if reply.status != 200:
            raise NoVerdict(reply.excerpt)
        answer = orjson.loads(reply.body)
        if "result" not in answer:
            raise NoVerdict(f"{_path(name)} is not there")
        positions = set(answer["result"])
        return frozenset(identifier for position, identifier in enumerate(case.rows) if position in positions)


@asynccontextmanager
async def running_oracle(policies: Mapping[str, RandomPolicy], *, folder: Path) -> AsyncIterator[Oracle]:
    """Yield OPA on these policies, each a package of its own, whose files are put into the folder.

    Raises `ConfigurationError` when a policy is not valid.
    """
    await asyncio.to_thread(_write_policies, policies, folder)
    running = running_opa(folder, schemas={"chunk": SCHEMA}, deadline_s=_DEADLINE_S)
    address = running.process.address
    async with (
        running as typed,
        OpaEngine(address, schemas={}, deadline_s=_DEADLINE_S) as dirty,
        OpaClient(address, deadline_s=_DEADLINE_S) as client,
    ):
        yield Oracle({"typed": typed, "dirty": dirty}, client)


def _write_policies(policies: Mapping[str, RandomPolicy], folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "authz.rego").write_text(_AUTHZ, encoding="utf-8")
    for name, policy in policies.items():
        (folder / f"{name}.rego").write_text(policy.module(_path(name).replace("/", ".")), encoding="utf-8")


def _path(name: str) -> str:
    return f"regate/proof/{name}"
