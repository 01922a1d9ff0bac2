"""What deciding a list a second time costs: a page as the filter alone gives it, beside the same page
decided. `python -m bench.lists`.

One managed OPA with the shipped policies, SQLite with some hundred rows of each kind, and the audit log on
the disk: all but HTTP. Every filter is remembered, as in a gateway that is asked often. The two ways take
turns, so that what the machine does meanwhile meets both alike.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.gateway import percentile
from bench.machine import describe, watched
from bench.questions import STORE, principal, question
from bench.timing import aim
from regate_adapters.audit.log import SegmentedAuditLog
from regate_adapters.opa.batching import BatchingEngine
from regate_adapters.opa.caching import CachingEngine
from regate_adapters.state.store import SqlStateStore
from regate_adapters.testing.opa import running_opa
from regate_gateway.workbench.directory import shipped_policies
from regate_orchestrator.authz.batches import LISTED_FILES, LISTED_PROMPTS, LISTED_RESPONSES, LISTED_STORES
from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.authz.lists import Listed, Listings, Reading
from regate_orchestrator.authz.points import ROWS
from regate_orchestrator.filters.schema import load_schema
from regate_orchestrator.rows import FileRow, Page, PromptRow, PromptVersion, ResponseRow, Rows, StoreRow
from regate_orchestrator.values import FileId, JsonObject, PromptId, RequestId, ResponseId, StoreId

WHO: Final = principal(5)
CONTEXT: Final = Context(WHO, RequestId("req_bench"))
_ROWS: Final = 300
_MAX_MS: Final = 3


@dataclass(frozen=True, slots=True)
class List:
    """A list, and how its rows are read."""

    name: str
    listed: Listed[Any]
    read: Reading[Any]


async def fill(state: SqlStateStore) -> None:
    """Store rows of all kinds: a team's, of seven teams, each made by somebody else; and a person's
    own responses.
    """
    for number in range(_ROWS):
        sharing: JsonObject = {
            "visibility": "attributes",
            "teams": [f"team-{number % 7}"],
            "owner": f"user-{number}",
        }
        stamp = {name: value for name, value in (STORE | sharing).items() if name not in ("id", "name")}
        unshared = {name: value for name, value in stamp.items() if name != "shared"}
        name, at = f"{number:032x}", 1_700_000_000 + number
        await state.vector_stores.add(
            StoreRow(StoreId(f"vs_{name}"), "Handbook", at, at, {}, stamp, "model-256", 256, "main")
        )
        await state.files.add(FileRow(FileId(f"file-{name}"), "handbook.md", 3, "assistants", at, unshared))
        prompt = PromptRow(PromptId(f"pmpt_{name}"), "Greeting", at, {}, unshared)
        await state.prompts.add(
            prompt, PromptVersion(prompt.id, 1, at, WHO.id, {"instructions": "Be brief."}, ())
        )
        body = {"id": f"resp_{name}", "object": "response", "error": None}
        await state.responses.save(
            ResponseRow(
                ResponseId(f"resp_{name}"), "acme", WHO.id, at, "completed", None, "small", "r1", body
            )
        )


def lists(state: SqlStateStore, schemas: Any) -> list[List]:
    """Return the lists as the routes make them."""

    def described(kind: str, *fields: str) -> Callable[[Any], JsonObject]:
        return lambda row: schemas[kind].canonical(
            {**row.stamp, **{field: getattr(row, field) for field in ("id", *fields)}}
        )  # type: ignore[no-any-return]

    def named(row: Any) -> str:
        return str(row.id)

    return [
        List(
            "vector stores",
            Listed(LISTED_STORES, named, described("store", "name")),
            partial(state.vector_stores.page, WHO),
        ),
        List(
            "files",
            Listed(LISTED_FILES, named, described("file", "filename", "purpose")),
            partial(state.files.page, WHO, purpose=None),
        ),
        List(
            "prompts",
            Listed(LISTED_PROMPTS, named, described("prompt", "name")),
            partial(state.prompts.page, WHO),
        ),
        List(
            "responses", Listed(LISTED_RESPONSES, named, ResponseRow.view), partial(state.responses.page, WHO)
        ),
    ]


async def filtered(enforcer: Enforcer, one: List, page: Page) -> Rows[Any]:
    """Return the page as the filter alone gives it, recorded."""
    kind = one.listed.kind
    compiled = await enforcer.plan(CONTEXT, kind.point, kind.action, unknown=kind.row, resource={})
    await enforcer.record(CONTEXT, kind.action, {"compiled": compiled.note})
    return await one.read(compiled.plan, page)


async def in_turns(ways: Sequence[Callable[[], Awaitable[object]]], *, rounds: int) -> list[list[float]]:
    """Return the milliseconds of each call of each way."""
    taken: list[list[float]] = [[] for _ in ways]
    for number in range(rounds + 5):
        for way, milliseconds in zip(ways, taken, strict=True):
            began = time.perf_counter()
            await way()
            if number >= 5:
                milliseconds.append((time.perf_counter() - began) * 1000)
    return taken


async def run(rounds: int) -> None:
    """Measure, and print the table."""
    print(describe())
    policies = shipped_policies()
    schemas = {kind: load_schema(policies / "schemas" / f"{kind}.json") for kind in ROWS}
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        opa = await stack.enter_async_context(running_opa(policies, schemas=schemas, deadline_s=10))
        state = await stack.enter_async_context(SqlStateStore.open(f"sqlite:///{folder / 'state.db'}"))
        log = await stack.enter_async_context(SegmentedAuditLog.open(folder / "audit"))
        enforcer = Enforcer(CachingEngine(BatchingEngine(opa), seconds=3_600, entries=10), log, schemas)
        await fill(state)
        with watched() as noise:
            alone = partial(opa.ask, "regate/store/allow", question("store.list", 5))
            (decision,) = await in_turns([alone], rounds=rounds)
            print(f"one decision by itself, for comparison: p50 {percentile(decision, 0.5):.2f} ms")
            print(f"\n{'p50 of a page of':<24}{'filtered':>10}{'decided too':>13}{'more':>8}   aim")
            for one in lists(state, schemas):
                for limit in (20, 100):
                    ways = (
                        partial(filtered, enforcer, one, Page(limit=limit)),
                        partial(Listings(enforcer).page, CONTEXT, one.listed, Page(limit=limit), one.read),
                    )
                    before, after = (percentile(taken, 0.5) for taken in await in_turns(ways, rounds=rounds))
                    aims = aim(after - before, _MAX_MS, "ms") if limit == 100 else ""
                    print(
                        (
                            f"{limit:>4} {one.name:<19}{before:>7.2f} ms{after:>10.2f} "
                            f"ms{after - before:>5.2f} ms   {aims}"
                        ),
                        flush=True,
                    )
        print(noise)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    asyncio.run(run(parser.parse_args().rounds))


if __name__ == "__main__":
    main()
