"""One store of many tenants: recall and latency under the filter, for principals who may see all of it, a hundredth, a ten-thousandth.

Recall is against exact search over the permitted set. Chroma embedded, and pgvector where a PostgreSQL can be started from the development
dependencies. `python -m bench.vectors --chunks 100000`.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.gateway import percentile
from regate_adapters.vector.chroma import ChromaVectorStore
from regate_gateway.policy.directory import shipped_policies
from regate_orchestrator.filters import Compare, Everything, FilterPlan, In, Matching, all_of
from regate_orchestrator.ports import Chunk, VectorStore
from regate_orchestrator.schema import RowSchema, load_schema
from regate_orchestrator.values import FileId, StoreId

STORE = StoreId("vs_bench")
DIMENSIONS = 256
TENANTS = 1_000
K = 10


def vectors(count: int, *, seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return unit vectors in clusters, as embeddings of documents are."""
    source = np.random.default_rng(seed)
    centres = source.normal(size=(200, DIMENSIONS))
    raw = centres[source.integers(0, len(centres), count)] + 0.6 * source.normal(size=(count, DIMENSIONS))
    return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)


def stamp(number: int, per_tenant: int) -> dict[str, Any]:
    """Return a chunk's stamp; ten owners a tenant."""
    lists: dict[str, Any] = {name: [] for name in ("teams", "roles", "projects", "namespaces", "labels")}
    tenant, owner = number // per_tenant, number % 10
    return {
        "tenant": f"t{tenant}",
        "owner": f"o{owner}",
        "visibility": "tenant",
        "level": 0,
        "legal_hold": False,
        "embargo_until": 0,
    } | lists


def principals(chunks: int) -> dict[str, tuple[FilterPlan, Any]]:
    """Return for each kind of principal the plan, and which chunk numbers it permits."""
    per_tenant = chunks // TENANTS
    numbers = np.arange(chunks)
    ten = tuple(f"t{tenant}" for tenant in range(10))
    one = all_of([Compare("eq", ("tenant",), "t7"), Compare("eq", ("owner",), "o3")])
    return {
        "unfiltered": (Everything(), numbers),
        "100 %": (Matching(Compare("eq", ("visibility",), "tenant")), numbers),
        "1 %": (Matching(In(("tenant",), ten)), numbers[numbers < 10 * per_tenant]),
        "0.01 %": (Matching(one), numbers[(numbers // per_tenant == 7) & (numbers % 10 == 3)]),
    }


async def fill(store: VectorStore, data: np.ndarray[Any, Any]) -> float:
    """Store all chunks; return the seconds."""
    began = time.perf_counter()
    per_tenant = len(data) // TENANTS
    await store.create(STORE, dimensions=DIMENSIONS)
    with click.progressbar(range(0, len(data), 2_000), label=f"storing {len(data)} chunks") as starts:
        for start in starts:
            part = range(start, min(start + 2_000, len(data)))
            await store.add(
                STORE,
                [
                    Chunk(
                        f"c{number:07}",
                        FileId(f"file-{number // 10}"),
                        number % 10,
                        "text",
                        data[number].tolist(),
                        stamp(number, per_tenant),
                        {},
                    )
                    for number in part
                ],
            )
    return time.perf_counter() - began


async def measure(name: str, store: VectorStore, data: np.ndarray[Any, Any], queries: np.ndarray[Any, Any]) -> None:
    """Print recall and latency of each principal."""
    for who, (plan, permitted) in principals(len(data)).items():
        recalls: list[float] = []
        taken: list[float] = []
        for query in queries:
            scores = data[permitted] @ query
            best = {f"c{permitted[position]:07}" for position in np.argsort(-scores)[:K]}
            began = time.perf_counter()
            found = await store.search(STORE, query.tolist(), plan=plan, limit=K)
            taken.append((time.perf_counter() - began) * 1000)
            recalls.append(len(best & {candidate.id for candidate in found.candidates}) / len(best))
        recall = sum(recalls) / len(recalls)
        print(f"{name:<10}{who:<12}{recall:>10.4f}{percentile(taken, 0.5):>10.1f}{percentile(taken, 0.99):>10.1f}", flush=True)


@asynccontextmanager
async def stores(schema: RowSchema) -> AsyncIterator[Sequence[tuple[str, VectorStore]]]:
    """Enter with every engine that can be had here."""
    with tempfile.TemporaryDirectory(prefix="regate-bench-") as folder:
        async with ChromaVectorStore(Path(folder), schema) as chroma:
            yield [("chroma", chroma)]


async def run(chunks: int, queries: int) -> None:
    """Fill and measure each engine."""
    schema = load_schema(shipped_policies() / "schemas" / "chunk.json")
    data, asked = vectors(chunks, seed=1), vectors(queries, seed=1)
    async with stores(schema) as engines:
        for name, store in engines:
            seconds = await fill(store, data)
            print(f"\n{name}: {chunks} chunks of {TENANTS} tenants in one store, stored in {seconds:.0f} s")
            print(f"{'store':<10}{'permitted':<12}{'recall@10':>10}{'p50 ms':>10}{'p99 ms':>10}")
            await measure(name, store, data, asked)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=50)
    arguments = parser.parse_args()
    asyncio.run(run(arguments.chunks, arguments.queries))


if __name__ == "__main__":
    main()
