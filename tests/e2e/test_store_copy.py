"""`regate store copy` as a process: what it says, that it waits for no gateway, and a kill in the middle."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tests.deployments import only_on
from tests.e2e.conftest import ScriptedUpstream, World, started
from tests.patience import PATIENT_SECONDS, until

from regate_gateway.config.settings import Settings
from regate_orchestrator.values import StoreId

pytestmark = only_on("embedded")

CHUNKS = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0}}
LONG = "\n\n".join(f"Paragraph {number}: {'all about leave and its rules. ' * 14}" for number in range(1_200))


class Copying:
    """Runs the command with the settings of a gateway that has ended."""

    def __init__(self, settings: Settings, folder: Path, *, vector: object = None) -> None:
        said = {
            "data_dir": str(settings.data_dir),
            "opa": {"bundle": str(settings.opa.bundle)},
            "vector": vector or VECTOR,
        }
        self._config = folder / "regate.yaml"
        self._config.write_text(yaml.safe_dump(said))

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("REGATE_")}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "regate_gateway", "store", "copy", *arguments),
            *("--config", str(self._config)),
            env=kept,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *arguments: str) -> tuple[int | None, str, str]:
        process = await self.start(*arguments)
        out, err = await asyncio.wait_for(process.communicate(), PATIENT_SECONDS)
        return process.returncode, out.decode(), err.decode()


VECTOR = {
    "default": "main",
    "stores": {"main": {"kind": "local"}, "other": {"kind": "chroma"}, "lost": {"kind": "memory"}},
}


async def filled(world: World, *texts: str) -> str:
    """Return a new store with these texts in it."""
    alice = world.client("alice", "acme")
    store = (await alice.vector_stores.create(name="s")).id
    for number, content in enumerate(texts):
        file = await alice.files.create(file=(f"{number}.txt", content.encode()), purpose="assistants")
        await alice.vector_stores.files.create(
            vector_store_id=store,
            file_id=file.id,
            chunking_strategy=CHUNKS,  # type: ignore[arg-type]
        )

    async def is_done() -> bool:
        counts = (await alice.vector_stores.retrieve(store)).file_counts
        return counts.completed == counts.total

    await until(is_done)
    return store


async def found(world: World, store: str, query: str) -> list[str]:
    page = await world.client("alice", "acme").vector_stores.search(
        vector_store_id=store, query=query, max_num_results=3, extra_body={"search_mode": "vector"}
    )
    return [hit.filename + hit.content[0].text for hit in page.data]


async def engine_of(world: World, store: str) -> str | None:
    assert world.gateway.services is not None
    return await world.gateway.services.state.vector_stores.engine_of(StoreId(store))


async def test_a_store_is_copied_after_a_kill_in_the_middle_and_is_searchable_all_along(
    configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path, tmp_path: Path
) -> None:
    settings = configure(vector=VECTOR)
    copying = Copying(settings, tmp_path)
    async with started(settings, upstream, policies) as world:
        store = await filled(world, LONG, "The blue heron nests in March.")
        before = await found(world, store, "Where does the heron nest?")
        running = await copying.run(store, "other")
    killed = await copying.start(store, "other")
    assert killed.stderr is not None
    progress = await asyncio.wait_for(killed.stderr.readline(), PATIENT_SECONDS)
    killed.kill()
    await killed.wait()
    async with started(settings, upstream, policies) as world:
        between = await found(world, store, "Where does the heron nest?")
        assert await engine_of(world, store) == "main"
    done = await copying.run(store, "other")
    again = await copying.run(store, "other")
    async with started(settings, upstream, policies) as world:
        after = await found(world, store, "Where does the heron nest?")
        assert await engine_of(world, store) == "other"

    assert (running[0], "a gateway uses" in running[2]) == (1, True), running
    assert b"500 of 2,401" in progress
    assert (done[0], f"{store} is in other: 2401 chunks" in done[1]) == (0, True), done
    assert (again[0], again[1]) == (0, f"{store} is in other already; no other engine has any of it.\n")
    assert before == between == after
    assert "blue heron" in before[0]


@pytest.mark.parametrize(
    ("store", "engine", "said"),
    [
        ("vs_absent", "other", "there is no vector store vs_absent"),
        ("vs_absent", "lost", "keeps its vectors in memory"),
    ],
)
async def test_what_cannot_be_copied_exits_1_and_says_why(
    configure: Callable[..., Settings],
    upstream: ScriptedUpstream,
    policies: Path,
    tmp_path: Path,
    store: str,
    engine: str,
    said: str,
) -> None:
    code, out, err = await Copying(configure(vector=VECTOR), tmp_path).run(store, engine)

    assert (code, out, said in err) == (1, "", True), err


async def test_a_store_is_copied_to_an_engine_with_words_beside_it_and_searched_by_words_there(
    configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path, tmp_path: Path
) -> None:
    vector = {
        "default": "main",
        "stores": {
            "main": {"kind": "local"},
            "other": {"kind": "chroma", "words": "lexical"},
            "lexical": {"kind": "local"},
        },
    }
    settings = configure(vector=vector)
    copying = Copying(settings, tmp_path, vector=vector)
    async with started(settings, upstream, policies) as world:
        store = await filled(world, "The blue heron nests in March.", "Form QX-7741 asks for leave.")
    status, _, said = await copying.run(store, "other")
    refused, _, why = await copying.run(store, "lexical")
    async with started(settings, upstream, policies) as world:
        page = await world.client("alice", "acme").vector_stores.search(
            vector_store_id=store, query="qx-7741", extra_body={"search_mode": "keyword"}
        )
        assert await engine_of(world, store) == "other"

    assert status == 0, said
    assert [hit.filename for hit in page.data] == ["1.txt"]
    assert (refused, "keeps the words of other" in why) == (1, True), why
