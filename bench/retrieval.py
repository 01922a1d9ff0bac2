"""Retrieval in one store shared by three tenants, beside stores that hold one tenant each: recall, leaks,
latency and memory, by vectors, by words and by both.

Reads a corpus with one folder of Markdown a tenant and `queries.jsonl` (tenant, query, facts with the file
that answers). Says so and does nothing when it is not there. `make bench PARTS=retrieval CORPUS=folder`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import click

from bench.gateway import RunningGateway, percentile, running_gateway, token

CUTOFFS = (1, 5, 10)
MODES = ("vector", "keyword", "hybrid")
PLACES = ("shared", "one tenant")
SHARED = {"name": "shared", "metadata": {"regate.share": "all_tenants"}}


@dataclass
class Tally:
    """What one way of storing scored."""

    hits: dict[int, int] = field(default_factory=lambda: dict.fromkeys(CUTOFFS, 0))
    leaks: int = 0
    milliseconds: list[float] = field(default_factory=list)

    def count(self, found: Sequence[str], question: dict[str, Any]) -> None:
        """Count whether a file that answers is among the first of those found."""
        wanted = {fact["file"] for fact in question["facts"]}
        for cutoff in CUTOFFS:
            self.hits[cutoff] += not wanted.isdisjoint(found[:cutoff])


class Client:
    """One tenant's member."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, tenant: str, *, roles: tuple[str, ...] = ()
    ) -> None:
        self._session = session
        self._url = url
        self._headers = {"Authorization": f"Bearer {token('user', tenant, teams=('staff',), roles=roles)}"}

    async def call(self, method: str, path: str, **more: Any) -> Any:
        """Return the answer's JSON; raises on anything but 2xx."""
        async with self._session.request(
            method, f"{self._url}/v1{path}", headers=self._headers, **more
        ) as answer:
            if answer.status != 200:
                raise RuntimeError(f"{method} {path}: {answer.status} {await answer.text()}")
            return await answer.json()

    async def upload(self, path: Path) -> str:
        """Return the id of the uploaded file."""
        form = aiohttp.FormData()
        form.add_field("purpose", "assistants")
        form.add_field("file", path.read_bytes(), filename=path.name)
        return str((await self.call("POST", "/files", data=form))["id"])


async def ingest(client: Client, store: str, files: Sequence[str], progress: Any) -> None:
    """Attach the files and wait until each is searchable."""
    for file in files:
        await client.call("POST", f"/vector_stores/{store}/files", json={"file_id": file})
    waiting = set(files)
    while waiting:
        for file in sorted(waiting):
            state = await client.call("GET", f"/vector_stores/{store}/files/{file}")
            if state["status"] == "failed":
                raise RuntimeError(f"{file}: {state['last_error']}")
            if state["status"] == "completed":
                waiting.discard(file)
                progress.update(1)
        await asyncio.sleep(0.05)


async def run(corpus: Path) -> None:
    """Ingest, ask every question in both ways, and print the table."""
    tenants = sorted(folder.name for folder in corpus.iterdir() if folder.is_dir())
    questions = [
        json.loads(line)
        for line in (corpus / "queries.jsonl").read_text(encoding="utf-8").splitlines()
        if line
    ]
    async with running_gateway() as gateway, aiohttp.ClientSession() as session:
        clients = {tenant: Client(session, gateway.url, tenant, roles=("store_admin",)) for tenant in tenants}
        before = gateway.resident_mib()
        shared = (
            await clients[tenants[0]].call(
                "POST", "/vector_stores", json={"name": "shared", "metadata": {"regate.share": "all_tenants"}}
            )
        )["id"]
        own = {
            tenant: (await clients[tenant].call("POST", "/vector_stores", json={"name": tenant}))["id"]
            for tenant in tenants
        }
        names: dict[str, dict[str, str]] = {}
        documents = {tenant: sorted((corpus / tenant).glob("*.md")) for tenant in tenants}
        count = sum(map(len, documents.values()))
        began = time.perf_counter()
        with click.progressbar(length=2 * count, label=f"ingesting {count} documents, twice") as progress:
            for tenant, paths in documents.items():
                files = [await clients[tenant].upload(path) for path in paths]
                names[tenant] = dict(zip(files, (path.name for path in paths), strict=True))
                for store in (shared, own[tenant]):
                    await ingest(clients[tenant], store, files, progress)
        seconds = time.perf_counter() - began
        tallies = {(mode, place): Tally() for mode in MODES for place in PLACES}
        same = dict.fromkeys(MODES, 0)
        with click.progressbar(
            questions, label=f"asking {len(questions)} questions, {len(tallies)} times"
        ) as asked:
            for question in asked:
                client, known = clients[question["tenant"]], names[question["tenant"]]
                for mode in MODES:
                    stores = {"shared": shared, "one tenant": own[question["tenant"]]}
                    answers = [
                        await ask(client, stores[place], question, known, tallies[mode, place], mode)
                        for place in PLACES
                    ]
                    same[mode] += answers[0] == answers[1]
        report(
            gateway, tallies, same, questions=len(questions), documents=count, seconds=seconds, before=before
        )


async def ask(
    client: Client, store: str, question: dict[str, Any], names: dict[str, str], tally: Tally, mode: str
) -> list[tuple[str, float]]:
    """Search as the right tenant, count, and return the hits."""
    began = time.perf_counter()
    page = await client.call(
        "POST",
        f"/vector_stores/{store}/search",
        json={"query": question["query"], "max_num_results": max(CUTOFFS), "search_mode": mode},
    )
    tally.milliseconds.append((time.perf_counter() - began) * 1000)
    found = page["data"]
    tally.leaks += sum(hit["file_id"] not in names for hit in found)
    tally.count([hit["filename"] for hit in found], question)
    return [(hit["filename"], hit["score"]) for hit in found]


def report(
    gateway: RunningGateway,
    tallies: dict[tuple[str, str], Tally],
    same: dict[str, int],
    *,
    questions: int,
    documents: int,
    seconds: float,
    before: float,
) -> None:
    """Print the table."""
    print(
        f"\n{documents} documents in one shared store of all tenants, and each tenant's in a store of "
        f"its own; {questions} questions"
    )
    print(
        f"{'mode':<10}{'store':<12}{'recall@1':>10}{'recall@5':>10}{'recall@10':>11}{'leaks':>7}{'p50 ms':>9}"
        f"{'p99 ms':>9}{'same':>6}"
    )
    for (mode, place), tally in tallies.items():
        recall = "".join(f"{tally.hits[cutoff] / questions:>{10 + (cutoff == 10)}.3f}" for cutoff in CUTOFFS)
        fifty, ninety_nine = percentile(tally.milliseconds, 0.5), percentile(tally.milliseconds, 0.99)
        times = f"{fifty:>9.1f}{ninety_nine:>9.1f}"
        print(f"{mode:<10}{place:<12}{recall}{tally.leaks:>7}{times}{same[mode]:>6}")
    print("same: of how many questions hits, order and scores were identical in both stores")
    print(
        f"ingest: {2 * documents / seconds:.1f} attachments/s; memory: {before:.0f} MiB after start, "
        f"{gateway.resident_mib():.0f} MiB after all"
    )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--corpus",
        type=Path,
        default=os.environ.get("CORPUS"),
        help="the folder; else the environment's CORPUS",
    )
    corpus: Path | None = parser.parse_args().corpus
    if corpus is None or not (corpus / "queries.jsonl").is_file():
        print(
            "no corpus found: say where it is with CORPUS=folder (one folder of Markdown a tenant, and "
            "queries.jsonl)"
        )
        return
    asyncio.run(run(corpus))


if __name__ == "__main__":
    main()
