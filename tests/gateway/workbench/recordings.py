"""Audit records made as the gateway makes them: a real enforcer, a real OPA with real policies, a real
audit log.
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from regate_adapters.audit.log import SegmentedAuditLog
from regate_adapters.testing.opa import running_opa
from regate_gateway.workbench.directory import shipped_policies
from regate_gateway.workbench.replay.engine import row_schemas
from regate_orchestrator.authz.batches import LISTED_STORES, Batch
from regate_orchestrator.authz.decisions import Context, Point, Question
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.authz.lists import Listed, Listings
from regate_orchestrator.filters.expression import FilterPlan
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import Page, Rows
from regate_orchestrator.values import JsonObject, RequestId

ALICE = Principal("alice", "acme", teams=("hr",), roles=("hr",), clearance=2)
BOB = Principal("bob", "acme", teams=("eng",))
STORE: JsonObject = {
    "id": "vs_1", "name": "handbook", "tenant": "acme", "owner": "alice", "visibility": "tenant",
        "teams": [], "roles": [], "projects": [],
    "namespaces": [], "level": 0, "labels": [], "shared": False,
}  # fmt: skip
_ITEM: JsonObject = {
    "id": "resp_0", "kind": "response", "tenant": "acme", "owner": "alice", "labels": [], "created": 1,
        "policy_revision": "r",
}  # fmt: skip
TOOL: JsonObject = {
    "type": "function", "server_label": "", "name": "mail", "arguments": {"text": "SECRET-ARGUMENT"},
        "side_effect": True,
}  # fmt: skip

Activity = Callable[[Enforcer], Awaitable[object]]


def chunk(**changes: Any) -> dict[str, Any]:
    return {
        "tenant": "acme", "owner": "carol", "visibility": "attributes", "teams": ["hr"], "roles": [],
            "projects": [], "namespaces": [],
        "level": 0, "labels": [], "legal_hold": False, "embargo_until": 0, **changes,
    }  # fmt: skip


def context(principal: Principal, *, response: str | None = None) -> Context:
    return Context(principal, RequestId("req_1"), response)


def copied_policies(target: Path) -> Path:
    """A copy of the shipped policies that a test may change."""
    return Path(shutil.copytree(shipped_policies(), target))


async def record(policies: Path, audit: Path, activity: Activity) -> None:
    """Let an enforcer decide under these policies, and record it in the audit directory."""
    schemas = row_schemas(policies)
    async with (
        running_opa(policies, schemas=schemas, deadline_s=10) as engine,
        SegmentedAuditLog.open(audit, durable=False) as log,
    ):
        await activity(Enforcer(engine, log, schemas))


async def usual(enforcer: Enforcer) -> None:
    """One of everything that can be recorded: decisions, a batch of each kind, and filters."""
    for principal in (ALICE, BOB):
        who = context(principal, response="resp_1")
        await enforcer.decide_all(
            who,
            "turn",
            [
                Question(Point.STORE, "store.delete", {"store": STORE}, about="vs_1"),
                Question(Point.TOOL, "tool.call", _tool_call(), about="mail"),
            ],
            batch=_batch(
                [
                    chunk(),
                    chunk(labels=["draft"]),
                    chunk(tenant="globex"),
                    chunk(visibility="tenant", labels=["hr-only"]),
                ]
            ),
            notes={"chunks": ["c0", "c1", "c2", "c3"]},
        )
        compiled = await enforcer.plan(
            who, Point.CHUNK, "chunk.read", unknown="chunk", resource={"store": STORE}
        )
        await enforcer.admit(
            who,
            "chunk.read",
            _batch([chunk()]),
            notes={"retrieval": {"compiled": compiled.note, "chunks": ["c0"]}},
        )
        await Listings(enforcer).page(
            who,
            Listed(LISTED_STORES, name=lambda row: str(row["id"]), view=lambda row: row),
            Page(),
            _two_stores,
        )
        await enforcer.admit(who, "lists", _listed())
        await enforcer.decide(who, Question(Point.INGEST, "ingest.document", _document(), about="file_1"))


def edit(policies: Path, file: str, replacements: Mapping[str, str]) -> None:
    """Change a policy file; each text to replace must be there."""
    path = policies / file
    text = path.read_text(encoding="utf-8")
    for old, new in replacements.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


async def _two_stores(_plan: FilterPlan, _page: Page) -> Rows[JsonObject]:
    """What a state store reads whose filter lets a store through that is nobody's to see."""
    return Rows((STORE, {**STORE, "id": "vs_2", "owner": "carol", "visibility": "private"}), has_more=False)


def _listed() -> Batch:
    """The rows of other lists: of each kind one that alice may see, and one that nobody here may."""
    other: JsonObject = {"owner": "carol", "visibility": "private"}
    files: list[JsonObject] = [
        {**STORE, "id": "file_1", "filename": "a.md", "purpose": "assistants", **more} for more in ({}, other)
    ]
    prompts: list[JsonObject] = [{**STORE, "id": "pmpt_1", "name": "Summary", **more} for more in ({}, other)]
    responses: list[JsonObject] = [{**_ITEM, "owner": owner} for owner in ("alice", "carol")]
    return Batch(listed_files=files, listed_prompts=prompts, listed_responses=responses)


def _tool_call() -> JsonObject:
    return {"tool": TOOL, "turn": {"index": 0, "calls_so_far": 0}}


def _document() -> JsonObject:
    document = {
        "filename": "a.md",
        "mime": "text/markdown",
        "size": 3,
        "attributes": {},
        "requested": {"teams": ["hr"]},
        "file": STORE,
    }
    return {"store": STORE, "document": document}


def _batch(chunks: Sequence[JsonObject]) -> Batch:
    result: JsonObject = {"tool": TOOL, "result": {"mime": "text/plain", "size": 10, "labels": ["draft"]}}
    return Batch(
        stores={"vs_1": STORE},
        chunks=[("vs_1", stamp) for stamp in chunks],
        items=[_ITEM],
        tool_results=[result],
        models=["small"],
    )
