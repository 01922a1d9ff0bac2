"""`regate eval` before a gateway that keeps nothing apart: what is wrong is found, and it exits with 1."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from tests.e2e.evaluating import Evaluation


@dataclass
class Kept:
    """A file that somebody uploaded."""

    tenant: str
    name: str
    content: str
    rank: float = 0
    is_attached: bool = True


@dataclass
class Leaky:
    """Answers as a gateway does that keeps no tenants apart. Stands for what is outside of us."""

    hears_filters: bool = True
    files: dict[str, Kept] = field(default_factory=dict)
    stores: dict[str, str] = field(default_factory=dict)

    def tenant(self, request: web.Request) -> str:
        return request.headers["Authorization"].removeprefix("Bearer ")

    async def upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        file: Any = form["file"]
        identifier = f"file-{len(self.files)}"
        self.files[identifier] = Kept(self.tenant(request), file.filename, file.file.read().decode())
        return web.json_response({"id": identifier})

    async def create(self, request: web.Request) -> web.Response:
        identifier = f"vs_{len(self.stores)}"
        self.stores[identifier] = (await request.json())["name"]
        return web.json_response({"id": identifier})

    async def attach(self, request: web.Request) -> web.Response:
        for file in (await request.json())["files"]:
            self.files[file["file_id"]].rank = file["attributes"]["eval_rank"]
        return web.json_response({"id": "vsfb_1"})

    async def batch(self, request: web.Request) -> web.Response:
        return web.json_response({"file_counts": {"in_progress": 0, "completed": 1, "failed": 0, "total": 1}})

    async def amend(self, request: web.Request) -> web.Response:
        file = self.files[request.match_info["file"]]
        file.rank = (await request.json())["attributes"]["eval_rank"]
        return web.json_response({"id": "x"})

    async def detach(self, request: web.Request) -> web.Response:
        self.files[request.match_info["file"]].is_attached = False
        return web.json_response({"deleted": True})

    async def search(self, request: web.Request) -> web.Response:
        asked = await request.json()
        words, wanted = set(asked["query"].split()), asked.get("filters") if self.hears_filters else None
        found = [
            (identifier, file)
            for identifier, file in self.files.items()
            if file.is_attached and (wanted is None or self.matches(file, wanted))
        ]
        found.sort(key=lambda one: -len(words & set(one[1].content.strip(".\n").split())))
        hits = [
            {"file_id": one, "filename": file.name, "content": [{"type": "text", "text": file.content}]}
            for one, file in found[:1]
        ]
        return web.json_response({"data": hits})

    def matches(self, file: Kept, wanted: dict[str, Any]) -> bool:
        return file.rank < wanted["value"] if wanted["type"] == "lt" else file.rank == wanted["value"]

    async def listing(self, request: web.Request) -> web.Response:
        names = {one: file.name for one, file in self.files.items() if file.tenant == self.tenant(request)}
        key = "filename" if request.path.endswith("files") else "name"
        kept = names if key == "filename" else self.stores
        data = [{"id": one, key: name, "created_at": 2**40} for one, name in kept.items()]
        return web.json_response({"data": data, "has_more": False})

    async def remove(self, request: web.Request) -> web.Response:
        kept: dict[str, Any] = self.files if "files" in request.path else self.stores
        kept.pop(request.match_info["id"], None)
        return web.json_response({"deleted": True})


@asynccontextmanager
async def serving(gateway: Leaky) -> AsyncIterator[str]:
    """Enter with it answering at this address."""
    app, stores = web.Application(), "/v1/vector_stores"
    app.router.add_post("/v1/files", gateway.upload)
    app.router.add_get("/v1/files", gateway.listing)
    app.router.add_delete("/v1/files/{id}", gateway.remove)
    app.router.add_post(stores, gateway.create)
    app.router.add_get(stores, gateway.listing)
    app.router.add_delete(f"{stores}/{{id}}", gateway.remove)
    app.router.add_post(f"{stores}/{{id}}/search", gateway.search)
    app.router.add_post(f"{stores}/{{id}}/file_batches", gateway.attach)
    app.router.add_get(f"{stores}/{{id}}/file_batches/{{batch}}", gateway.batch)
    app.router.add_post(f"{stores}/{{id}}/files/{{file}}", gateway.amend)
    app.router.add_delete(f"{stores}/{{id}}/files/{{file}}", gateway.detach)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_a_leak_is_found_and_named_and_exits_1(tmp_path: Path) -> None:
    gateway = Leaky()
    async with serving(gateway) as url:
        evaluation = Evaluation(tmp_path, url, acme="acme", globex="globex")
        code, out, _ = await evaluation.run("--canaries", "2", "--changes", "1", "--json", "--out", "report")

    found = json.loads(out)
    others = next(one for one in found["probes"] if one["kind"] == "others")
    assert (code, found["ok"], others["probes"], others["leaks"], others["upper_bound"]) == (
        1,
        False,
        4,
        4,
        1,
    )
    assert {(leak["searcher"], *leak["owners"]) for leak in found["leaks"]} == {
        ("acme", "globex"),
        ("globex", "acme"),
    }
    assert "**LEAK: 4 searches found" in (tmp_path / "report/report.md").read_text()
    assert any("/metrics" in note for note in found["notes"])  # which this gateway has not
    assert (gateway.files, gateway.stores) == ({}, {})


async def test_what_stays_although_it_was_taken_back_exits_1(tmp_path: Path) -> None:
    async with serving(Leaky(hears_filters=False)) as url:
        evaluation = Evaluation(tmp_path, url, acme="acme")
        shape = ("--canaries", "10", "--changes", "1", "--give-up", "0.5")
        code, out, _ = await evaluation.run(*shape, "--json")

    found = json.loads(out)
    assert code == 1
    assert [(one["change"], one["never"], one["late"] > 0) for one in found["revoked"]] == [
        ("attributes", 1, True),
        ("removal", 0, False),
    ]
    assert [(one["percent"], one["breaches"]) for one in found["filtered"]] == [(100.0, 0), (10.0, 9)]
    assert any("tokens of two tenants" in note for note in found["notes"])
