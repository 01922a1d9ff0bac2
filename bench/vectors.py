"""One store of 1,000 tenants: what the policy's filter costs in recall and time, for principals who may see
all of it, 1 % and 0.01 %.

The filters are those that OPA compiles of the shipped chunk rule, with the tenant's guard, and every hit is
decided again, as in a retrieval. (Behind the guard nobody sees all of a store of many tenants. So whoever
does is asked about without it and without the rule's own condition on the tenant, as where tenants share; the
post-check then has no say.) Recall is against exact search over what the principal may see. `python -m
bench.vectors --chunks 100000`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import numpy as np

from bench import engines
from bench.corpus import TENANTS, Asker, Corpus, Numbers, Vectors, make_corpus, make_vectors, name
from bench.engines import EMBEDDED, SERVERS, STORE, Engine, K
from bench.gateway import percentile
from bench.machine import describe, watched
from bench.processes import resident_mib
from bench.timing import aim
from regate_adapters.opa.caching import CachingEngine
from regate_adapters.testing.opa import running_opa
from regate_gateway.workbench.directory import shipped_policies
from regate_orchestrator.authz.batches import Batch
from regate_orchestrator.authz.decisions import Context, Point
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.errors import VectorStoreUnavailable
from regate_orchestrator.filters.expression import (
    And,
    Compare,
    FilterPlan,
    all_of,
    expression_of,
    narrow,
    plan_of,
)
from regate_orchestrator.filters.schema import load_schema
from regate_orchestrator.ports import Query
from regate_orchestrator.values import JsonObject, RequestId

_ADDED_AT_ONCE: Final = 2_000
_CHECKS_AIM_MS: Final = 3
_ROUNDING: Final = 1e-6  # engines compute with 32 bits
_CUTOFFS: Final = (5, 10)
_TURNS: Final = 10
"""So many tenants' queries are asked in turns."""
T = TypeVar("T")
_STORE_ROW: Final[JsonObject] = {
    "id": STORE,
    "name": "bench",
    "tenant": "t0",
    "owner": "ann",
    "shared": True,
    "visibility": "tenant",
    "level": 0,
    **{key: [] for key in ("teams", "roles", "projects", "namespaces", "labels")},
}


class _Unrecorded:
    """An audit log that keeps nothing: the disk is not what is measured here."""

    async def record(self, record: JsonObject) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class Enforcers:
    """The decisions, with a filter compiled for every search, and with it remembered."""

    compiling: Enforcer
    remembering: Enforcer


@dataclass(frozen=True, slots=True)
class Checks:
    """The policy checks of one retrieval, in milliseconds: the store, the filter in both ways, the hits."""

    opening: float
    compiling: float
    remembering: float
    deciding: float

    def with_filter(self, made: float) -> float:
        """Return what all of them took, with the filter made in this time."""
        return self.opening + made + self.deciding


@dataclass(slots=True)
class Figures:
    """What the searches of one kind came to, in milliseconds."""

    recalls: list[tuple[float, ...]] = field(default_factory=list)
    """Of each search, by `_CUTOFFS`."""
    searches: list[float] = field(default_factory=list)
    checks: list[Checks] = field(default_factory=list)
    leaked: int = 0
    """Hits of chunks that are not permitted."""
    denied: int = 0
    """Hits that the decision on them refused."""
    failed: int = 0

    def show(self, label: str) -> None:
        """Print a line of the table."""
        if not self.searches:
            print(f"{label:<34} all {self.failed} searches failed", flush=True)
            return
        line = f"{label:<34}" + "".join(
            f"{sum(at) / len(at):>10.4f}" for at in zip(*self.recalls, strict=True)
        )
        line += "".join(f"{percentile(self.searches, share):>9.1f}" for share in (0.5, 0.99))
        if self.checks:
            compiled = [one.with_filter(one.compiling) for one in self.checks]
            remembered = [one.with_filter(one.remembering) for one in self.checks]
            line += f"{self.leaked:>7}{self.denied:>8}{percentile(compiled, 0.5):>12.2f}{percentile(remembered, 0.5):>12.2f}"
        print(f"{line}{f'  {self.failed} searches failed' if self.failed else ''}", flush=True)


async def run(chunks: int, tenants: int, queries: int, wanted: Sequence[str]) -> None:
    """Fill and measure each engine."""
    print(describe())
    policies = shipped_policies()
    schemas = {
        kind: load_schema(policies / "schemas" / f"{kind}.json")
        for kind in ("chunk", "store", "file", "item")
    }
    corpus, asked = make_corpus(chunks, tenants=tenants), make_vectors(queries, seed=2)
    async with running_opa(policies, schemas=schemas) as opa:
        remembering = CachingEngine(opa, seconds=3_600, entries=100)
        enforcers = Enforcers(
            Enforcer(opa, _Unrecorded(), schemas), Enforcer(remembering, _Unrecorded(), schemas)
        )
        for engine_name in wanted:
            async with engines.opened(engine_name, schemas["chunk"], corpus.vectors) as engine:
                seconds = await fill(engine, corpus)
                print(
                    f"\n{engine.name}: {chunks} chunks of {tenants} tenants in one store, stored in "
                    f"{seconds:.0f} s; {queries} queries"
                )
                with watched() as noise:
                    await measure(engine, corpus, asked, enforcers)
                print(
                    f"memory of this process, all vectors once included: {resident_mib(os.getpid()):.0f} MB"
                )
                print(noise)


async def fill(engine: Engine, corpus: Corpus) -> float:
    """Store all chunks; return the seconds."""
    began = time.perf_counter()
    await engine.store.create(STORE, dimensions=corpus.vectors.shape[1])
    count = len(corpus.vectors)
    for start in range(0, count, _ADDED_AT_ONCE):
        part = range(start, min(start + _ADDED_AT_ONCE, count))
        await engine.store.add(STORE, [corpus.chunk(number) for number in part])
        if part.stop == count or part.stop % (10 * _ADDED_AT_ONCE) == 0:
            print(
                f"{engine.name}: stored {part.stop} of {count} chunks in {time.perf_counter() - began:.0f} s",
                flush=True,
            )
    await engine.settled()
    if engine.files is not None:
        used = sum(path.stat().st_size for path in engine.files.rglob("*") if path.is_file())
        print(f"{engine.name}: {used >> 20} MB on disk", flush=True)
    return time.perf_counter() - began


async def measure(engine: Engine, corpus: Corpus, queries: Vectors, enforcers: Enforcers) -> None:
    """Print recall and times: of the engine by itself, then of each principal."""
    recalls = "".join(f"{f'recall@{count}':>10}" for count in _CUTOFFS)
    print(
        f"{'':<34}{recalls}{'p50 ms':>9}{'p99 ms':>9}{'leaked':>7}{'denied':>8}{'checks p50':>12}{'remembered':>12}"
    )
    whole = np.arange(len(corpus.vectors))
    for label, search in (("the engine, unfiltered", engine.unfiltered), ("exact, unfiltered", engine.exact)):
        figures = Figures()
        await search(queries[0].tolist())
        for query in queries:
            found, took = await timed(search(query.tolist()))
            figures.recalls.append(recalls_of(corpus, whole, query, found))
            figures.searches.append(took)
        figures.show(label)
    checks: list[Checks] = []
    asking = [(f"permitted: {asker.name}", [asker]) for asker in corpus.askers()]
    asking.append((f"{_TURNS} tenants in turns", [corpus.member(number) for number in range(_TURNS)]))
    for label, askers in asking:
        for asker in askers:  # the first pays for what later ones find warm
            await retrieve(engine, corpus, asker, queries[0], enforcers, Figures())
        figures = Figures()
        for number, query in enumerate(queries):
            await retrieve(engine, corpus, askers[number % len(askers)], query, enforcers, figures)
        figures.show(label)
        checks += figures.checks
    names = ("opening", "compiling", "remembering", "deciding")
    store, compiled, remembered, hits = (
        percentile([getattr(one, part) for one in checks], 0.5) for part in names
    )
    print(
        f"checks, p50: store {store:.2f} ms, filter compiled {compiled:.2f} ms or remembered "
        f"{remembered:.2f} ms, decision on the hits {hits:.2f} ms;"
        " together with a remembered filter "
        f"{aim(percentile([one.with_filter(one.remembering) for one in checks], 0.5), _CHECKS_AIM_MS, 'ms')}"
    )


async def retrieve(
    engine: Engine, corpus: Corpus, asker: Asker, query: Vectors, enforcers: Enforcers, figures: Figures
) -> None:
    """Do what a retrieval does, with the filter compiled and remembered, and note recall and times."""
    context = Context(asker.principal, RequestId("req_bench"))
    enforcer = enforcers.remembering
    _, opening = await timed(enforcer.admit(context, "store.search", Batch(stores={STORE: _STORE_ROW})))
    resource: JsonObject = {"store": _STORE_ROW}
    compiled, compiling = await timed(
        enforcers.compiling.plan(context, Point.CHUNK, "chunk.read", unknown="chunk", resource=resource)
    )
    _, remembering = await timed(
        enforcer.plan(context, Point.CHUNK, "chunk.read", unknown="chunk", resource=resource)
    )
    try:
        found, searching = await timed(
            engine.store.search(STORE, Query(query.tolist(), limit=K), plan=plan_for(asker, compiled.plan))
        )
    except (
        VectorStoreUnavailable
    ):  # it took too long, which on a busy machine is no fault of the others' figures
        figures.failed += 1
        return
    batch = Batch(
        stores={STORE: _STORE_ROW}, chunks=[(STORE, candidate.stamp) for candidate in found.candidates]
    )
    admitted, deciding = await timed(enforcer.admit(context, "chunk.read", batch))
    figures.checks.append(Checks(opening, compiling, remembering, deciding))
    figures.searches.append(searching)
    ids = [candidate.id for candidate in found.candidates]
    figures.recalls.append(recalls_of(corpus, asker.permitted, query, ids))
    figures.leaked += len(set(ids) - {name(int(number)) for number in asker.permitted})
    figures.denied += 0 if asker.across_tenants else len(found.candidates) - len(admitted.chunks)


def plan_for(asker: Asker, compiled: FilterPlan) -> FilterPlan:
    """Return the plan as retrieval would give it to the store: with the tenant's guard, or, across
    tenants, without any word on tenants.
    """
    if not asker.across_tenants:
        return narrow(compiled, Compare("eq", ("tenant",), asker.principal.tenant))
    expression = expression_of(compiled)
    parts = expression.parts if isinstance(expression, And) else (expression,)
    return plan_of(
        all_of(part for part in parts if not (isinstance(part, Compare) and part.field == ("tenant",)))
    )


def recalls_of(corpus: Corpus, among: Numbers, query: Vectors, found: Sequence[str]) -> tuple[float, ...]:
    """Return which share of the best is among the first found, for each of the cutoffs. A chunk as similar
    as the last of the best counts as well: either is right. What points away from the query is not similar at
    all, which is a score of 0, however far it does.
    """
    exact = np.maximum(0, corpus.vectors[among].astype(np.float64) @ query.astype(np.float64))
    shares = []
    for cutoff in _CUTOFFS:
        count = min(cutoff, len(among))
        least = np.partition(exact, -count)[-count] - _ROUNDING
        good = {name(int(number)) for number in among[exact >= least]}
        shares.append(min(count, len(good & set(found[:cutoff]))) / count)
    return tuple(shares)


async def timed(work: Awaitable[T]) -> tuple[T, float]:
    """Return the result, and the milliseconds it took."""
    began = time.perf_counter()
    result = await work
    return result, (time.perf_counter() - began) * 1000


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--tenants", type=int, default=TENANTS)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument(
        "--engine",
        action="append",
        choices=(*EMBEDDED, *SERVERS),
        help="measure this one; may be given again",
    )
    arguments = parser.parse_args()
    asyncio.run(run(arguments.chunks, arguments.tenants, arguments.queries, arguments.engine or EMBEDDED))


if __name__ == "__main__":
    main()
