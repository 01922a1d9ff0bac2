"""Writes to LanceDB until it is killed, and says what it was told is stored. A program of its own."""

from __future__ import annotations

import asyncio
import sys
from itertools import count
from pathlib import Path

from regate_adapters.vector.lancedb.engine import LanceEngine
from regate_adapters.vector.marked.engine import MarkedRow
from regate_orchestrator.values import StoreId


async def write(path: Path, life: str) -> None:
    store = StoreId("vs_1")
    async with LanceEngine(path, timeout_s=120, tidy_every=3) as engine:
        await engine.make(store, 4)
        for number in count():
            rows = [
                MarkedRow(
                    f"{life}-{number}/{part}",
                    "acme",
                    ("kept", f"life{life}"),
                    f"[{life}, {number}]",
                    (1, 0, 0, 0),
                )
                for part in range(3)
            ]
            await engine.put(store, rows)
            for row in rows:
                sys.stdout.write(f"{row.id} {row.document}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1]), sys.argv[2]))
