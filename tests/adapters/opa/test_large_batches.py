"""Batches of any size, asked by an enforcer of a real OPA with the shipped policies: answered in
parts, as one answer, in one record.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from tests.adapters.opa.test_batching import ANN, KINDS, RULE, Noting

from regate_adapters.audit.log import SegmentedAuditLog
from regate_adapters.opa.batching import MAX_CONCURRENT, BatchingEngine
from regate_adapters.testing.opa import running_opa
from regate_gateway.workbench.directory import shipped_policies
from regate_gateway.workbench.replay.recorded import read_records
from regate_orchestrator.authz.batches import Batch
from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.ports import Answer, PolicyEngine
from regate_orchestrator.principal import Principal
from regate_orchestrator.values import JsonObject, RequestId

ITEMS: Final = 30_000
CHUNKS: Final = 10_000
CONTEXT: Final = Context(Principal("ann", "acme", teams=("hr",), clearance=1), RequestId("req_1"))
SHARING: Final[JsonObject] = {
    "tenant": "acme",
    "visibility": "attributes",
    "teams": ["hr"],
    "roles": [],
    "projects": [],
    "namespaces": [],
}
PATIENT_SECONDS: Final = 60


def item(number: int) -> JsonObject:
    """An item of which every third is somebody else's."""
    owner = "ann" if number % 3 else "bob"
    about = {"id": f"msg_{number}", "kind": "message", "created": number, "policy_revision": "r"}
    return {**about, "tenant": "acme", "owner": owner, "labels": []}


def stamp(number: int) -> JsonObject:
    """A stamp like no other, of which every fourth is too high."""
    scalars: JsonObject = {
        "owner": f"u{number}",
        "level": 0 if number % 4 else 9,
        "legal_hold": False,
        "embargo_until": 0,
    }
    return {**SHARING, **scalars, "labels": []}


def store(number: int) -> JsonObject:
    return {
        **SHARING,
        "id": f"vs_{number}",
        "name": "s",
        "owner": "bob",
        "level": 0 if number % 5 else 9,
        "labels": [],
        "shared": False,
    }


class Counting(Noting):
    """Notes how many questions are under way at once as well."""

    now = most = 0

    async def ask(self, rule: str, document: JsonObject) -> Answer:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            return await super().ask(rule, document)
        finally:
            self.now -= 1


async def test_batch_of_a_very_long_conversation_is_answered_whole(tmp_path: Path) -> None:
    stores = {f"vs_{number}": store(number) for number in range(1_000)}
    batch = Batch(
        stores=stores,
        chunks=[(f"vs_{number % 1_000}", stamp(number)) for number in range(CHUNKS)],
        items=[item(number) for number in range(ITEMS)],
    )
    async with (
        running_opa(shipped_policies(), deadline_s=PATIENT_SECONDS) as opa,
        SegmentedAuditLog.open(tmp_path, durable=False, deadline_s=PATIENT_SECONDS) as log,
    ):
        counting = Counting(opa)
        admitted = await Enforcer(BatchingEngine(counting), log, {}).admit(CONTEXT, "turn", batch)
    sizes = [sum(len(document.get(kind, ())) for kind in KINDS) for document in counting.asked]
    (record,) = read_records(tmp_path)

    assert admitted.items == {number for number in range(ITEMS) if number % 3}
    assert admitted.chunks == {number for number in range(CHUNKS) if number % 4}
    assert admitted.stores == {name for number, name in enumerate(stores) if number % 5}
    assert (sum(sizes), max(sizes) <= MAX_CONCURRENT + len(KINDS), counting.most) == (ITEMS + CHUNKS, True, 2)
    assert {name: len(part["asked"]) for name, part in record["batch"].items()} == {
        "stores": 1_000,
        "chunks": CHUNKS,
        "items": ITEMS,
    }


class Interrupted(Counting):
    """Notes how many turns others have had before each question."""

    def __init__(self, inner: PolicyEngine) -> None:
        super().__init__(inner)
        self.turns = 0
        self.seen: list[int] = []

    async def ask(self, rule: str, document: JsonObject) -> Answer:
        self.seen.append(self.turns)
        return await super().ask(rule, document)

    async def others(self) -> None:
        while True:
            await asyncio.sleep(0)
            self.turns += 1


async def test_others_are_served_between_the_parts() -> None:
    asked: JsonObject = {"v": 1, "now": 1, "request_id": "r", "action": "batch", "principal": ANN}
    async with (
        running_opa(shipped_policies(), deadline_s=PATIENT_SECONDS) as opa,
        asyncio.TaskGroup() as group,
    ):
        engine = Interrupted(opa)
        others = group.create_task(engine.others())
        await BatchingEngine(engine).ask(RULE, {**asked, "items": [item(number) for number in range(5_000)]})
        others.cancel()

    assert (len(engine.seen), len(set(engine.seen)) >= 5) == (10, True)
