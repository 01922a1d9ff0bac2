"""Retrieval in one store shared by three tenants, beside stores that hold one tenant each: recall, leaks,
latency and memory, by vectors, by words and by both.

Reads a corpus with one folder of Markdown a tenant and `queries.jsonl` (tenant, query, facts with the file
that answers). Says so and does nothing when it is not there. `make bench PARTS=retrieval CORPUS=folder`
measures the default engine; `python -m bench.retrieval --engine weaviate --engine pgvector` others, those
without a search by words with the local engine beside.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import click

from bench.engines import EMBEDDED, SERVERS, configured_here
from bench.gateway import RunningGateway, percentile, running_gateway, token
from regate_adapters.vector.registry import KINDS

_DEFAULT: Final = "local"
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


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents by tenant, and questions with the file that answers."""

    documents: dict[str, list[Path]]
    questions: list[dict[str, Any]]


def read_corpus(folder: Path, most: int | None) -> Corpus:
    """Return the documents, and so many of the questions."""
    lines = (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    tenants = sorted(one.name for one in folder.iterdir() if one.is_dir())
    documents = {tenant: sorted((folder / tenant).glob("*.md")) for tenant in tenants}
    return Corpus(documents, [json.loads(line) for line in lines if line][:most])


async def run(corpus: Corpus, kind: str) -> None:
    """Ingest into an engine of this kind, ask every question in both ways, and print the table."""
    async with AsyncExitStack() as stack:
        settings, environment = _configured(kind, stack)
        gateway = await stack.enter_async_context(running_gateway(more=settings, environment=environment))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        clients = {
            tenant: Client(session, gateway.url, tenant, roles=("store_admin",))
            for tenant in corpus.documents
        }
        before = gateway.resident_mib()
        began = time.perf_counter()
        first = next(iter(clients.values()))
        shared = (await first.call("POST", "/vector_stores", json=SHARED))["id"]
        stores = {
            tenant: (await client.call("POST", "/vector_stores", json={"name": tenant}))["id"]
            for tenant, client in clients.items()
        }
        places = {tenant: {"shared": shared, "one tenant": own} for tenant, own in stores.items()}
        names = await _filled(corpus, clients, places)
        seconds = time.perf_counter() - began
        tallies = {(mode, place): Tally() for mode in MODES for place in PLACES}
        same = dict.fromkeys(MODES, 0)
        with click.progressbar(
            corpus.questions, label=f"asking {len(corpus.questions)} questions, {len(tallies)} times"
        ) as asked:
            for question in asked:
                tenant = question["tenant"]
                for mode in MODES:
                    answers = [
                        await ask(clients[tenant], store, question, names[tenant], tallies[mode, place], mode)
                        for place, store in places[tenant].items()
                    ]
                    same[mode] += answers[0] == answers[1]
        report(kind, gateway, corpus, tallies, same, seconds=seconds, before=before)


def _configured(kind: str, stack: AsyncExitStack) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the settings and variables of a gateway on an engine of this kind; a server is started for it."""
    if kind == _DEFAULT:
        return {}, {}
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="regate-bench-")))
    configured = configured_here(kind, folder, stack)
    engines = {"main": configured.settings.model_dump(mode="json", exclude_none=True)}
    if not KINDS[kind].by_words:
        engines |= {"main": {**engines["main"], "words": "lexical"}, "lexical": {"kind": "local"}}
    secrets = {getattr(configured.settings, name): value for name, value in configured.secrets.items()}
    return {"vector": {"default": "main", "stores": engines}}, secrets


async def _filled(
    corpus: Corpus, clients: dict[str, Client], places: dict[str, dict[str, str]]
) -> dict[str, dict[str, str]]:
    """Ingest all documents into their places; return each tenant's file names by id."""
    names: dict[str, dict[str, str]] = {}
    count = sum(map(len, corpus.documents.values()))
    with click.progressbar(length=2 * count, label=f"ingesting {count} documents, twice") as progress:
        for tenant, paths in corpus.documents.items():
            files = [await clients[tenant].upload(path) for path in paths]
            names[tenant] = dict(zip(files, (path.name for path in paths), strict=True))
            for store in places[tenant].values():
                await ingest(clients[tenant], store, files, progress)
    return names


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
    kind: str,
    gateway: RunningGateway,
    corpus: Corpus,
    tallies: dict[tuple[str, str], Tally],
    same: dict[str, int],
    *,
    seconds: float,
    before: float,
) -> None:
    """Print the table."""
    questions, documents = len(corpus.questions), sum(map(len, corpus.documents.values()))
    print(
        f"\n{kind}: {documents} documents in one shared store of all tenants, and each tenant's in a store of "
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
    parser.add_argument(
        "--engine",
        action="append",
        choices=(*EMBEDDED, *SERVERS),
        help="measure this one; may be given again",
    )
    parser.add_argument("--questions", type=int, help="ask the first so many alone")
    given = parser.parse_args()
    corpus: Path | None = given.corpus
    if corpus is None or not (corpus / "queries.jsonl").is_file():
        print(
            "no corpus found: say where it is with CORPUS=folder (one folder of Markdown a tenant, and "
            "queries.jsonl)"
        )
        return
    for kind in given.engine or [_DEFAULT]:
        asyncio.run(run(read_corpus(corpus, given.questions), kind))


if __name__ == "__main__":
    main()
