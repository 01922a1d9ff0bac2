"""OPA on many random policies at once: it makes the filter plans to be proven, and it is the oracle that says
what they should have found.

The oracle evaluates the whole rule for each row, as strictly as the gateway has it evaluated: a row whose
evaluation ends in an error is denied. A policy that the load check refuses is never served, so there is no
plan of it. Not the targets (`targets.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final, Literal, TypeAlias

import orjson

from regate_adapters.opa.acceptance.findings import Finding
from regate_adapters.opa.acceptance.judging import authoring_findings
from regate_adapters.opa.acceptance.reach import Filter
from regate_adapters.opa.acceptance.reading import parsed_by_server
from regate_adapters.opa.acceptance.syntax import Policies, modules_of
from regate_adapters.opa.client import OpaClient
from regate_adapters.opa.engine import OpaEngine
from regate_adapters.testing.opa import running_opa
from regate_adapters.testing.proof.grammar import Form
from regate_adapters.testing.proof.rows import SCHEMA, any_row, typed_row
from regate_adapters.testing.proof.text import RandomPolicy
from regate_orchestrator.errors import FilterNotExpressible, PolicyUnavailable
from regate_orchestrator.filters.expression import FilterPlan
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.values import JsonObject

UniverseName: TypeAlias = Literal["dirty", "typed"]
Rows: TypeAlias = Mapping[str, JsonObject]
"""Rows by identifier."""

_DEADLINE_SECONDS: Final = 30.0
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
    schemas: Mapping[str, RowSchema]


UNIVERSES: Final[Mapping[UniverseName, Universe]] = {
    "dirty": Universe("dirty", frozenset({"beyond", "rules"}), any_row, {}),
    "typed": Universe("typed", frozenset({"ambiguous", "beyond", "rules"}), typed_row, {"chunk": SCHEMA}),
}
"""`dirty`: no row schema, and rows of which nothing is promised. `typed`: rows conform to `SCHEMA`,
some of whose fields are optional.
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One policy for one principal, on rows: what a target must find exactly as the oracle does."""

    universe: UniverseName
    policy: RandomPolicy
    principal: JsonObject
    rows: Rows


class NotLoaded(FilterNotExpressible):
    """The load check refuses the policy, so no gateway serves it."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("; ".join(map(str, findings)))
        self.codes = sorted({finding.code for finding in findings})


class Oracle:
    """One running OPA. Make with `running_oracle`; many tasks may use it at once."""

    def __init__(
        self,
        engines: Mapping[UniverseName, OpaEngine],
        client: OpaClient,
        policies: Policies,
        *,
        checked: bool,
    ) -> None:
        self._engines = engines
        self._client = client
        self._policies = policies
        self._checked = checked
        self._known: dict[tuple[str, UniverseName], list[Finding]] = {}

    async def plan(self, name: str, case: Case) -> FilterPlan:
        """Return the case's filter plan. Raises `NotLoaded`, and `FilterNotExpressible` when the
        translator refuses the policy.
        """
        if self._checked and (found := self._findings(name, case.universe)):
            raise NotLoaded(found)
        planned = await self._engines[case.universe].plan(
            f"{_path(name)}/allow", {"principal": case.principal}, unknown="chunk"
        )
        return planned.plan

    def _findings(self, name: str, universe: UniverseName) -> list[Finding]:
        if (name, universe) not in self._known:
            made = Filter(tuple(_path(name).split("/")), "chunk", "")
            self._known[name, universe] = authoring_findings(
                self._policies, UNIVERSES[universe].schemas, filters=[made]
            )
        return self._known[name, universe]

    async def admitted(self, name: str, case: Case) -> frozenset[str]:
        """Return the rows for which the rule is true when each is evaluated in full; an error is a
        denial of the row that it befalls.
        """
        reply = await self._ask(
            f"{_path(name)}/admitted", {"principal": case.principal, "rows": list(case.rows.values())}
        )
        if reply is not None:
            return frozenset(identifier for position, identifier in enumerate(case.rows) if position in reply)
        alone = [
            (identifier, {"principal": case.principal, "chunk": row}) for identifier, row in case.rows.items()
        ]
        return frozenset(
            [
                identifier
                for identifier, document in alone
                if await self._ask(f"{_path(name)}/allow", document) is True
            ]
        )

    async def _ask(self, rule: str, document: JsonObject) -> Any:
        """Return the rule's value; None where it is undefined, or its evaluation ended in an error."""
        reply = await self._client.post(f"/v1/data/{rule}?strict-builtin-errors=true", {"input": document})
        if reply.status not in (200, 500):
            raise PolicyUnavailable(f"OPA answered {reply.status} for {rule}: {reply.excerpt}")
        return orjson.loads(reply.body).get("result")


@asynccontextmanager
async def running_oracle(
    policies: Mapping[str, RandomPolicy], *, folder: Path, checked: bool = True
) -> AsyncIterator[Oracle]:
    """Yield OPA on these policies, each a package of its own, whose files are put into the folder.

    Without `checked` plans are made of policies that the load check refuses as well. Raises
    `ConfigurationError` when a policy is not valid.
    """
    texts = {
        f"{module}.rego": text
        for name, policy in policies.items()
        for module, text in policy.modules(_path(name).replace("/", ".")).items()
    }
    await asyncio.to_thread(_write, texts, folder)
    running = running_opa(folder, schemas={"chunk": SCHEMA}, deadline_s=_DEADLINE_SECONDS)
    address = running.process.address
    async with (
        running as typed,
        OpaEngine(address, schemas={}, deadline_s=_DEADLINE_SECONDS) as dirty,
        OpaClient(address, deadline_s=_DEADLINE_SECONDS) as client,
    ):
        parsed = Policies(modules_of(await parsed_by_server(client, texts)))
        yield Oracle({"typed": typed, "dirty": dirty}, client, parsed, checked=checked)


def _write(texts: Mapping[str, str], folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, text in {"authz.rego": _AUTHZ, **texts}.items():
        (folder / name).write_text(text, encoding="utf-8")


def _path(name: str) -> str:
    return f"regate/proof/{name}"
