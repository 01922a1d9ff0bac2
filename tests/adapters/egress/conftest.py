"""The way out, as it is made in a gateway: real OPA on the shipped policies with hosts of the tests, real
sockets. Only the names are the tests' own.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final, cast

import pytest_asyncio
from tests.adapters.backend.conftest import ScriptedUpstream
from tests.orchestrator.scripted import CONTEXT, Records, counted

from regate_adapters.egress.addresses import Address
from regate_adapters.egress.fetching import FetchLimits, GuardedFetcher
from regate_adapters.egress.guard import EgressGuard, EgressLimits
from regate_adapters.egress.place import LetOut
from regate_adapters.opa.engine import OpaEngine
from regate_adapters.testing.opa import running_opa
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.egress import EgressDecisions
from regate_orchestrator.metrics import Metrics
from regate_orchestrator.ports import Fetched, Purpose

REGO: Final = Path(__file__).parents[3] / "rego"
LISTED: Final = ["docs.test", "mirror.test", "127.0.0.1", "::1", "10.0.0.1", "169.254.169.254"]


@dataclass
class Names:
    """A resolver that answers what a test says, one answer after the other, the last for ever."""

    answers: dict[str, list[list[str]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def addresses(self, host: str, port: int) -> Sequence[Address]:
        self.asked.append(host)
        answers = self.answers.get(host)
        if answers is None:
            raise OSError("no such name")
        return [ip_address(text) for text in (answers.pop(0) if len(answers) > 1 else answers[0])]


class World:
    """One guard with its fetcher, its resolver, and what was recorded and counted."""

    def __init__(
        self,
        engine: OpaEngine,
        *,
        names: dict[str, list[list[str]]] | None = None,
        private: Sequence[str] = ("127.0.0.0/8",),
        ports: Sequence[int] = (443,),
        ca_file: Path | None = None,
        **limits: Any,
    ) -> None:
        self.names, self.records, self.metrics = Names(names or {}), Records(), Metrics()
        enforcer = Enforcer(engine, self.records, {}, metrics=self.metrics)
        allowed = EgressLimits(tuple(map(ip_network, private)), frozenset(ports), ca_file=ca_file)
        self.guard = EgressGuard(EgressDecisions(enforcer), self.names, allowed, self.metrics)
        self.fetcher = GuardedFetcher(self.guard, FetchLimits(**limits))

    async def let_out(self, url: str, purpose: Purpose = "file", *, operator_named: bool = False) -> LetOut:
        return await self.guard.let_out(CONTEXT, url, purpose, operator_named=operator_named)

    async def fetch(self, url: str, purpose: Purpose = "file", *, limit_bytes: int = 1_000_000) -> Fetched:
        return await self.fetcher.fetch(CONTEXT, url, purpose, limit_bytes=limit_bytes)

    @property
    def outcomes(self) -> dict[tuple[str, ...], float]:
        return counted(self.metrics, "regate_egress")

    @property
    def decisions(self) -> list[Any]:
        return [one for record in self.records.written for one in cast("Any", record.get("decisions", ()))]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engine(tmp_path_factory: Any) -> AsyncIterator[OpaEngine]:
    policies = tmp_path_factory.mktemp("policies") / "rego"
    shutil.copytree(REGO, policies)
    data = json.loads((policies / "data.json").read_text())
    data["regate"]["egress_hosts"] |= {
        "file": LISTED,
        "image": ["*"],
        "page": [".wikipedia.test"],
        "mcp": ["docs.test"],
    }
    (policies / "data.json").write_text(json.dumps(data))
    async with running_opa(policies, deadline_s=10) as engine:
        yield engine


@pytest_asyncio.fixture(loop_scope="session")
async def server() -> AsyncIterator[ScriptedUpstream]:
    scripted = ScriptedUpstream()
    async with scripted.serving():
        yield scripted
