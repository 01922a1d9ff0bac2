"""Searches more stores than embedded Chroma can keep open, under a limit on open files, and prints what is
wrong: run by `test_chroma_scale.py`.

    python -m tests.adapters.vector.many_stores FOLDER FILES STORES

Two rounds, a restart, and two rounds again. A line of JSON is printed for each search that failed or found
anything but its store's own.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from dataclasses import replace
from pathlib import Path

from regate_adapters.testing.vector.suite import DIMENSIONS, SCHEMA, hostile_chunks
from regate_adapters.vector.chroma.store import ChromaVectorStore
from regate_orchestrator.errors import VectorStoreUnavailable
from regate_orchestrator.filters.expression import Everything
from regate_orchestrator.ports import Chunk, Query
from regate_orchestrator.values import StoreId


def names(count: int) -> list[StoreId]:
    """Return names of so many stores."""
    return [StoreId(f"vs_{number:016}") for number in range(count)]


def chunks_of(store: StoreId) -> list[Chunk]:
    """Return three chunks that tell whose they are."""
    return [
        replace(chunk, id=f"acme/{store}/0/{chunk.index:06}", text=store) for chunk in hostile_chunks(count=3)
    ]


async def fill(store: ChromaVectorStore, name: StoreId) -> None:
    """Make the store and add its chunks."""
    await store.create(name, dimensions=DIMENSIONS)
    await store.add(name, chunks_of(name))


async def fault(store: ChromaVectorStore, name: StoreId) -> str | None:
    """Return what is wrong with a search in the store."""
    try:
        found = await store.search(
            name, Query(hostile_chunks(count=1)[0].vector, limit=10), plan=Everything()
        )
    except VectorStoreUnavailable as error:
        return error.detail
    texts = [candidate.text for candidate in found.candidates]
    return None if texts == [name] * 3 else f"found {texts}"


async def main(folder: Path, stores: int) -> None:
    """Fill the stores, and search all of them four times."""
    wanted = names(stores)
    async with ChromaVectorStore(folder, SCHEMA) as store:
        for name in wanted:
            await fill(store, name)
        faults = [await fault(store, name) for _ in range(2) for name in wanted]
    async with ChromaVectorStore(folder, SCHEMA) as store:
        faults += [await fault(store, name) for _ in range(2) for name in wanted]
    print(json.dumps({"searches": len(faults), "faults": sorted({one for one in faults if one is not None})}))


if __name__ == "__main__":
    files = int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[3])))
