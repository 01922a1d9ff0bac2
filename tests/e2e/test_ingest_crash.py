"""The gateway is killed while it ingests: what was half done shows nowhere, is taken up again, and a
file at which it dies is given up.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from aiohttp import web
from tests.e2e.crashing import chunks_in
from tests.e2e.test_process import JWT, SECRET, headers

from regate_adapters.testing.ports import free_port
from regate_orchestrator.documents.ingestion import MAX_ATTEMPTS

POISON = "poison"


class Embeddings:
    """An upstream that makes embeddings, but for what is poisoned: of that it makes all but the last
    few and then answers no more.
    """

    def __init__(self) -> None:
        self.reached = asyncio.Semaphore(0)
        self.harmless = False

    async def embed(self, request: web.Request) -> web.Response:
        texts: list[str] = (await request.json())["input"]
        if not self.harmless and len(texts) < 64 and any(POISON in text for text in texts):
            self.reached.release()
            await asyncio.sleep(600)  # until the caller is killed
        vectors = [
            {"object": "embedding", "index": place, "embedding": [1.0, len(text) / 1_000]}
            for place, text in enumerate(texts)
        ]
        return web.json_response(
            {
                "object": "list",
                "data": vectors,
                "model": "e",
                "usage": {"prompt_tokens": 1, "total_tokens": 1},
            }
        )

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "e", "object": "model"}]})


@pytest.fixture
async def upstream() -> AsyncIterator[tuple[Embeddings, str]]:
    scripted = Embeddings()
    app = web.Application()
    app.router.add_get("/v1/models", scripted.models)
    app.router.add_post("/v1/embeddings", scripted.embed)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield scripted, f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    await runner.cleanup()


@asynccontextmanager
async def served(
    data_dir: Path, url: str
) -> AsyncIterator[tuple[httpx.AsyncClient, asyncio.subprocess.Process]]:
    """Enter with `regate serve` answering; it is ended on leaving, if it still runs."""
    port = free_port()
    config = data_dir / "regate.yaml"
    values = {
        "data_dir": str(data_dir),
        "listen": {"port": port},
        "upstreams": [{"name": "u", "base_url": url}],
        "embeddings": {"kind": "upstream", "upstream": "u", "model": "e"},
        "auth": {"jwt": JWT},
        "opa": {"timeout_ms": 60_000},
    }
    config.write_text(yaml.safe_dump(values))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "regate_gateway", "serve", "--config", str(config)),
        env={**os.environ, "TOKEN_SECRET": SECRET},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with (
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers(), timeout=60) as http,
            asyncio.timeout(90),
        ):
            while not await _answers(http):
                assert process.returncode is None
                await asyncio.sleep(0.05)
            yield http, process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _answers(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/healthz")).status_code == 200
    except httpx.TransportError:
        return False


async def post(http: httpx.AsyncClient, path: str, **kwargs: Any) -> dict[str, Any]:
    answer = await http.post(f"/v1{path}", **kwargs)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def upload(http: httpx.AsyncClient, text: str) -> str:
    return str(
        (await post(http, "/files", files={"file": ("a.md", text.encode())}, data={"purpose": "assistants"}))[
            "id"
        ]
    )


async def status(http: httpx.AsyncClient, store: str, file: str, *, ended: bool = False) -> dict[str, Any]:
    while True:
        found = (await http.get(f"/v1/vector_stores/{store}/files/{file}")).json()
        if not ended or found["status"] != "in_progress":
            return dict(found)
        await asyncio.sleep(0.02)  # the API is polled, as clients do


async def files_found(http: httpx.AsyncClient, store: str) -> set[str]:
    page = await post(
        http, f"/vector_stores/{store}/search", json={"query": "anything", "max_num_results": 50}
    )
    return {hit["file_id"] for hit in page["data"]}


def long(word: str) -> str:
    """A text of more chunks than are stored at once."""
    return " ".join(f"{word} {number} and so on and on." for number in range(1_400))


def written(data_dir: Path, store: str, file: str) -> int:
    return chunks_in(data_dir / "vector" / "main")[store, file]


STATIC = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0}}


async def test_file_that_was_half_ingested_when_the_gateway_was_killed_is_found_whole_or_not_at_all(
    upstream: tuple[Embeddings, str], tmp_path: Path
) -> None:
    embeddings, url = upstream
    async with served(tmp_path, url) as (http, process):
        store = (await post(http, "/vector_stores", json={"name": "s"}))["id"]
        file = await upload(http, long(POISON))
        await post(http, f"/vector_stores/{store}/files", json={"file_id": file, "chunking_strategy": STATIC})
        await embeddings.reached.acquire()
        during = await files_found(http, store)
        process.send_signal(signal.SIGKILL)
        await process.wait()
    half = written(tmp_path, store, file)
    embeddings.harmless = True
    async with served(tmp_path, url) as (http, _):
        done = await status(http, store, file, ended=True)
        after = await files_found(http, store)
        counts = (await http.get(f"/v1/vector_stores/{store}")).json()["file_counts"]
        pieces = (await http.get(f"/v1/vector_stores/{store}/files/{file}/content")).json()["data"]
        with closing(sqlite3.connect(tmp_path / "regate.db")) as database:
            database.execute(
                "UPDATE orphaned_generations SET due_at = 0"
            )  # as when the dead worker's writes must have ended
            database.commit()
    async with served(tmp_path, url) as (http, _):
        async with asyncio.timeout(120):
            while _waiting(tmp_path):
                await asyncio.sleep(0.02)
        still = await files_found(http, store)

    assert (during, half > 0, half % 64) == (set(), True, 0)
    assert (done["status"], after, still, counts["completed"]) == ("completed", {file}, {file}, 1)
    assert written(tmp_path, store, file) == len(pieces) > half


def _waiting(data_dir: Path) -> int:
    with closing(sqlite3.connect(f"file:{data_dir / 'regate.db'}?mode=ro", uri=True)) as database:
        (count,) = database.execute("SELECT count(*) FROM orphaned_generations").fetchone()
        return int(count)


async def test_file_at_which_the_gateway_dies_again_and_again_is_given_up_and_keeps_no_other_from_being_read(
    upstream: tuple[Embeddings, str], tmp_path: Path
) -> None:
    embeddings, url = upstream
    async with served(tmp_path, url) as (http, process):
        store = (await post(http, "/vector_stores", json={"name": "s"}))["id"]
        file = await upload(http, POISON)
        await post(http, f"/vector_stores/{store}/files", json={"file_id": file})
        await embeddings.reached.acquire()
        process.send_signal(signal.SIGKILL)
        await process.wait()
    for _ in range(MAX_ATTEMPTS - 1):
        async with served(tmp_path, url) as (http, process):
            await embeddings.reached.acquire()
            other = await upload(http, "harmless")
            await post(http, f"/vector_stores/{store}/files", json={"file_id": other})
            read = await status(http, store, other, ended=True)
            process.send_signal(signal.SIGKILL)
            await process.wait()
    async with served(tmp_path, url) as (http, _):
        given_up = await status(http, store, file, ended=True)
        found = await files_found(http, store)

    assert read["status"] == "completed"
    assert (given_up["status"], given_up["last_error"]["code"]) == ("failed", "server_error")
    assert file not in found
    assert len(found) == MAX_ATTEMPTS - 1
    assert json.dumps(given_up["last_error"]["message"]).count("3 attempts") == 1
