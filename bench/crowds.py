"""A user of very many groups, and chunks of very many labels: compiled, searched and decided, in time
and bytes, or refused. Part of `policy.py`.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Final

import orjson

from bench import engines
from bench.corpus import DIMENSIONS, make_vectors, name
from bench.engines import Engine, K
from bench.gateway import percentile
from bench.questions import batch, question, stamp
from bench.timing import measure
from regate_adapters.opa.batching import BatchingEngine
from regate_adapters.opa.engine import OpaEngine
from regate_orchestrator.authz.batches import BATCH_RULE
from regate_orchestrator.errors import FilterNotExpressible, VectorStoreUnavailable
from regate_orchestrator.filters.expression import Compare, FilterPlan, narrow
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import Chunk, Query
from regate_orchestrator.values import FileId

_CHUNKS: Final = 1_000
_LABELS: Final = 100
_GROUPS: Final = (5, 500, 10_000)
_CALLS: Final = 30


async def measure_crowds(opa: OpaEngine, schema: RowSchema) -> None:
    """Print what searching costs such users, on each engine."""
    vectors = make_vectors(_CHUNKS, seed=1)
    print(f"\n{_CHUNKS} chunks of {_LABELS} labels each")
    for groups in _GROUPS:
        asked = batch(100, groups=groups, labels=_LABELS, distinct=True)
        taken, _ = await measure(partial(BatchingEngine(opa).ask, BATCH_RULE, asked), calls=_CALLS)
        print(
            f"  decide 100 of them for a user of {groups} teams: {percentile(taken, 0.5):.1f} ms, "
            f"{len(orjson.dumps(asked))} B asked"
        )
    for context in (engines.pgvector(schema), engines.chroma(schema, vectors)):
        async with context as engine:
            await engine.store.create(engines.STORE, dimensions=DIMENSIONS)
            await engine.store.add(
                engines.STORE, [_chunk(number, vectors[number].tolist()) for number in range(_CHUNKS)]
            )
            await engine.settled()
            for groups in _GROUPS:
                planned = await opa.plan(
                    "regate/chunk/allow", question("chunk.read", groups), unknown="chunk"
                )
                print(
                    (
                        f"  {engine.name}, a user of {groups} teams: "
                        f"{await _searched(engine, planned.plan, vectors[0].tolist())}"
                    ),
                    flush=True,
                )


async def _searched(engine: Engine, plan: FilterPlan, vector: list[float]) -> str:
    guarded = narrow(plan, Compare("eq", ("tenant",), "acme"))
    began = time.perf_counter()
    try:
        found = await engine.store.search(engines.STORE, Query(vector, limit=K), plan=guarded)
    except (FilterNotExpressible, VectorStoreUnavailable) as error:
        return f"refused in {(time.perf_counter() - began) * 1000:.1f} ms: {error.detail}"
    taken, _ = await measure(
        lambda: engine.store.search(engines.STORE, Query(vector, limit=K), plan=guarded), calls=_CALLS
    )
    return f"search {percentile(taken, 0.5):.1f} ms, {len(found.candidates)} of {found.permitted} permitted"


def _chunk(number: int, vector: list[float]) -> Chunk:
    return Chunk(name(number), FileId(f"file-{number}"), 0, "text", vector, stamp(number, labels=_LABELS), {})
