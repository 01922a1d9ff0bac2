"""Files that are attached again through a whole gateway: decided and stamped anew each time, and read again
only where other chunks might come of it.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

import httpx
import openai
from tests.e2e.conftest import NO_TLS, World
from tests.e2e.test_retrieval import found, ingest

CONTENT = "# Leave\n\nEmployees have 28 days of annual leave."


async def attached_again(client: openai.AsyncOpenAI, store: str, file: str, **more: Any) -> None:
    await client.vector_stores.files.create_and_poll(file, vector_store_id=store, poll_interval_ms=20, **more)


async def unread(world: World) -> int:
    """How many files were not read again."""
    async with httpx.AsyncClient(verify=NO_TLS) as anyone:
        page = (await anyone.get(f"{world.url}/metrics")).text
    (count,) = re.findall(r"^regate_ingest_unchanged_total ([\d.]+)$", page, re.MULTILINE)
    return int(float(count))


async def test_a_file_that_is_attached_again_is_decided_anew_and_not_read(world: World) -> None:
    alice, bob = world.client("alice", teams=["hr"]), world.client("bob", teams=["hr"])
    store = (await alice.vector_stores.create(name="s", metadata={"regate.visibility": "tenant"})).id
    file = await ingest(alice, store, "leave.md", CONTENT)
    by_both = [await found(one, store) for one in (alice, bob)]
    decisions = len(world.audit(phase="ingest.document"))
    attributes = {"regate.visibility": "private", "colour": "blue"}
    await attached_again(alice, store, file, attributes=attributes)
    by_one = [await found(one, store) for one in (alice, bob)]
    coloured = await found(alice, store, filters={"type": "eq", "key": "colour", "value": "blue"})

    assert by_both == [[CONTENT], [CONTENT]]
    assert by_one == [[CONTENT], []]
    assert coloured == [CONTENT]
    assert await unread(world) == 1
    assert len(world.audit(phase="ingest.document")) == decisions + 1


async def test_many_files_that_have_not_changed_are_not_read(world: World) -> None:
    alice = world.client("alice")
    store = (await alice.vector_stores.create(name="s")).id
    files = await asyncio.gather(
        *(ingest(alice, store, f"{number}.md", f"{CONTENT} {number}") for number in range(5))
    )
    batch = await alice.vector_stores.file_batches.create_and_poll(store, file_ids=files, poll_interval_ms=20)

    assert batch.file_counts.completed == 5
    assert len(await found(alice, store)) == 5
    assert await unread(world) == 5


async def test_what_may_be_made_otherwise_is_read(world: World) -> None:
    alice = world.client("alice")
    store, other = [(await alice.vector_stores.create(name=name)).id for name in ("s", "t")]
    file = await ingest(alice, store, "leave.md", CONTENT)
    strategy = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0}}
    await attached_again(alice, store, file, chunking_strategy=strategy)
    await attached_again(alice, other, file)
    await ingest(alice, store, "leave.md", CONTENT)  # the same bytes, uploaded once more
    await alice.vector_stores.files.delete(file, vector_store_id=other)
    await attached_again(alice, other, file)

    assert await unread(world) == 0
    assert await found(alice, other) == [CONTENT]
