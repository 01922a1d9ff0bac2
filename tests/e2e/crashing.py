"""What the crash tests share: a model that answers by rule, a ledger of what was acknowledged, and what must
hold after a restart.

Not a test. `test_crash.py` kills a whole process in the middle of many requests; `killed_at.py` kills one at
each commit.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from aiohttp import web

SETTLED_SECONDS: Final = 30.0
_PIECE: Final = 9


def expected(asked: str) -> str:
    """What the model answers, in full."""
    return f"You asked: {asked} That is all there is to say about it, and it was said in pieces."


async def chat(request: web.Request) -> web.StreamResponse:
    """Answer the last question piece by piece; search first where that is offered."""
    body = await request.json()
    messages = body["messages"]
    asked = next(message["content"] for message in reversed(messages) if message["role"] == "user")
    asked = asked if isinstance(asked, str) else "".join(part.get("text", "") for part in asked)
    offered = [tool["function"]["name"] for tool in body.get("tools", ())]
    if offered and messages[-1]["role"] != "tool":
        call = {
            "index": 0,
            "id": "call_1",
            "type": "function",
            "function": {"name": offered[0], "arguments": json.dumps({"query": asked})},
        }
        deltas, reason = [{"tool_calls": [call]}], "tool_calls"
    else:
        whole = expected(asked)
        deltas, reason = [{"content": whole[at : at + _PIECE]} for at in range(0, len(whole), _PIECE)], "stop"
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for choice in [
        *({"index": 0, "delta": delta} for delta in deltas),
        {"index": 0, "delta": {}, "finish_reason": reason},
    ]:
        await response.write(
            b"data: "
            + json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [choice]}).encode()
            + b"\n\n"
        )
        await asyncio.sleep(0)  # what else is asked is answered in between
    usage = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}}
    await response.write(b"data: " + json.dumps(usage).encode() + b"\n\ndata: [DONE]\n\n")
    return response


async def models(request: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [{"id": "small", "object": "model"}]})


@asynccontextmanager
async def modelled(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]] = chat,
) -> AsyncIterator[str]:
    """Enter with the model served, which answers so; yields its base URL."""
    app = web.Application()
    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


# ---------------------------------------------------------------- what was acknowledged


@dataclass
class Ledger:
    """Paths of what was acknowledged, each with what it must hold; kept in a file, so that it outlives
    whoever writes it.
    """

    file: Path | None = None
    made: dict[str, dict[str, Any]] = field(default_factory=dict)
    removing: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, file: Path) -> Ledger:
        ledger = cls()
        for line in file.read_text().splitlines():
            ledger._apply(json.loads(line))
        return ledger

    def note(self, verb: str, path: str, **holds: Any) -> None:
        entry = {"verb": verb, "path": path, "holds": holds}
        self._apply(entry)
        if self.file is not None:
            with self.file.open("a") as out:
                out.write(json.dumps(entry) + "\n")

    def _apply(self, entry: dict[str, Any]) -> None:
        if entry["verb"] == "made":
            self.made[entry["path"]] = entry["holds"]
        else:
            {"removing": self.removing, "removed": self.removed}[entry["verb"]].add(entry["path"])


@dataclass
class Caller:
    """Makes requests, and notes in the ledger what was answered."""

    http: httpx.AsyncClient
    ledger: Ledger

    async def _post(self, path: str, **kwargs: Any) -> dict[str, Any]:
        answer = await self.http.post(path, **kwargs)
        assert answer.status_code == 200, f"{path}: {answer.text}"
        return dict(answer.json())

    async def upload(self, name: str, text: str) -> str:
        made = await self._post(
            "/v1/files", files={"file": (name, text.encode())}, data={"purpose": "user_data"}
        )
        self.ledger.note("made", f"/v1/files/{made['id']}", content=text)
        return str(made["id"])

    async def store(self) -> str:
        made = await self._post("/v1/vector_stores", json={"name": "s"})
        self.ledger.note("made", f"/v1/vector_stores/{made['id']}")
        return str(made["id"])

    async def attach(self, store: str, file: str) -> None:
        await self._post(f"/v1/vector_stores/{store}/files", json={"file_id": file})
        self.ledger.note("made", f"/v1/vector_stores/{store}/files/{file}", status=["completed"])

    async def change(self, path: str, member: str, value: Any) -> None:
        """Change one member of what is at the path: it must be as before or as asked until that is
        acknowledged, and as asked from then on.
        """
        holds = self.ledger.made[path]
        earlier = holds.get("changed", {}).get(member) or [(await self.http.get(path)).json()[member]]
        for one in ([*earlier, value], [value]):
            self.ledger.note("made", path, **{**holds, "changed": {**holds.get("changed", {}), member: one}})
            if len(one) > 1:
                await self._post(path, json={member: value})

    async def batch(self, store: str, files: Sequence[str]) -> str:
        made = await self._post(f"/v1/vector_stores/{store}/file_batches", json={"file_ids": list(files)})
        self.ledger.note("made", f"/v1/vector_stores/{store}/file_batches/{made['id']}", status=["completed"])
        for file in files:
            self.ledger.note("made", f"/v1/vector_stores/{store}/files/{file}", status=["completed"])
        return str(made["id"])

    async def cancelled(self, store: str, batch: str, files: Sequence[str]) -> None:
        for path in (f"file_batches/{batch}", *(f"files/{file}" for file in files)):
            self.ledger.note("made", f"/v1/vector_stores/{store}/{path}", status=["completed", "cancelled"])
        await self._post(f"/v1/vector_stores/{store}/file_batches/{batch}/cancel")

    async def ingested(self, store: str, file: str) -> None:
        async with asyncio.timeout(SETTLED_SECONDS):
            while (await self.http.get(f"/v1/vector_stores/{store}/files/{file}")).json()[
                "status"
            ] == "in_progress":
                await asyncio.sleep(0.01)

    async def search(self, store: str, query: str) -> list[dict[str, Any]]:
        return list((await self._post(f"/v1/vector_stores/{store}/search", json={"query": query}))["data"])

    async def remove(self, path: str) -> None:
        self.ledger.note("removing", path)
        answer = await self.http.delete(path)
        assert answer.status_code == 200, f"{path}: {answer.text}"
        self.ledger.note("removed", path)

    async def conversation(self) -> str:
        made = await self._post("/v1/conversations", json={})
        self.ledger.note("made", f"/v1/conversations/{made['id']}")
        return str(made["id"])

    async def ask(self, asked: str, **request: Any) -> str:
        made = await self._post("/v1/responses", json={"model": "small", "input": asked, **request})
        background = request.get("background", False)
        assert background or made["status"] == "completed", made
        self.ledger.note(
            "made", f"/v1/responses/{made['id']}", asked=asked, status=["completed", *["failed"] * background]
        )
        return str(made["id"])

    async def stream(self, asked: str, **request: Any) -> str:
        identifier = ""
        async with self.http.stream(
            "POST", "/v1/responses", json={"model": "small", "input": asked, "stream": True, **request}
        ) as answer:
            assert answer.status_code == 200, await answer.aread()
            async for line in answer.aiter_lines():
                if line.startswith("data: {") and "response" in (event := json.loads(line[6:])):
                    identifier, ended = event["response"]["id"], event["type"] == "response.completed"
                    if ended:
                        self.ledger.note(
                            "made", f"/v1/responses/{identifier}", asked=asked, status=["completed"]
                        )
        return identifier

    async def ended(self, response: str) -> None:
        async with asyncio.timeout(SETTLED_SECONDS):
            while (await self.http.get(f"/v1/responses/{response}")).json()["status"] in (
                "queued",
                "in_progress",
            ):
                await asyncio.sleep(0.01)


# ---------------------------------------------------------------- what must hold afterwards


async def settled(database: Path) -> None:
    """Return when nothing is being ingested any more, which nobody asks for."""
    async with asyncio.timeout(SETTLED_SECONDS):
        while rows(database, "SELECT 1 FROM attachments WHERE status = 'in_progress'"):
            await asyncio.sleep(0.02)


async def swept(database: Path) -> None:
    """Return when nothing is left that is known to be removed. The gateway must run, by a clock at
    which all of it is due.
    """
    async with asyncio.timeout(SETTLED_SECONDS):
        while rows(database, "SELECT 1 FROM orphaned_blobs UNION ALL SELECT 1 FROM orphaned_generations"):
            await asyncio.sleep(0.02)


async def broken_promises(http: httpx.AsyncClient, ledger: Ledger) -> list[str]:
    """Return which acknowledged requests are not what was answered, as any client can see it."""
    found: list[str] = []
    for path, holds in ledger.made.items():
        tombstoned = [gone for gone in ledger.removing if _goes_with(path, gone)]
        answer = await http.get(path)
        if tombstoned:
            if any(gone in ledger.removed for gone in tombstoned) and answer.status_code != 404:
                found.append(f"{path} was deleted, and is {answer.status_code}")
            continue
        if answer.status_code != 200:
            found.append(f"{path} was acknowledged, and is {answer.status_code}")
            continue
        found += [f"{path}: {problem}" for problem in await _problems(http, path, answer.json(), holds)]
    return found


def _goes_with(path: str, gone: str) -> bool:
    """Return whether what is at the path goes with what was deleted: what is below it, and what a
    deleted file was attached to.
    """
    return f"{path}/".startswith(f"{gone}/") or (
        gone.startswith("/v1/files/") and path.endswith(gone.removeprefix("/v1"))
    )


async def _problems(
    http: httpx.AsyncClient, path: str, found: dict[str, Any], holds: dict[str, Any]
) -> list[str]:
    problems = []
    if "status" in holds and found["status"] not in holds["status"]:
        problems.append(f"is {found['status']}")
    for member, values in holds.get("changed", {}).items():
        if found[member] not in values:
            problems.append(f"has {member} {found[member]}")
    if (
        "asked" in holds
        and found["status"] == "completed"
        and _text(found["output"]) != expected(holds["asked"])
    ):
        problems.append(f"says {_text(found['output'])!r}")
    if "content" in holds and (await http.get(f"{path}/content")).text != holds["content"]:
        problems.append("has other bytes")
    if path.startswith("/v1/conversations/"):
        problems += await _conversation_problems(http, path)
    return problems


async def _conversation_problems(http: httpx.AsyncClient, path: str) -> list[str]:
    """Return what is wrong with a conversation of questions and answers, and take one more turn in it."""
    identifier = path.rpartition("/")[2]
    again = await http.post(
        "/v1/responses", json={"model": "small", "input": "Again?", "conversation": identifier}
    )
    if again.status_code != 200 or again.json()["status"] != "completed":
        return [f"takes no new turn: {again.text}"]
    items = (await http.get(f"{path}/items", params={"order": "asc", "limit": 100})).json()["data"]
    said = [
        (item["role"], "".join(part["text"] for part in item["content"]))
        for item in items
        if item["type"] == "message"
    ]
    asked, answered = said[::2], said[1::2]
    whole = [("user", text) for _, text in asked] == asked and [
        ("assistant", expected(text)) for _, text in asked
    ] == answered
    return [] if whole else [f"holds {said}"]


def _text(output: list[dict[str, Any]]) -> str:
    return "".join(part["text"] for item in output if item["type"] == "message" for part in item["content"])


def rows(database: Path, statement: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query, read beside whoever has the database open."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute(statement).fetchall()


def inconsistencies(database: Path) -> list[str]:
    """Return what in the rows cannot be, whoever was answered what."""
    found = [
        f"{what}: {row}"
        for what, statement in {
            "a response that never ends": (
                "SELECT id, status FROM responses WHERE status IN ('queued', 'in_progress')"
            ),
            "the row and the Response differ": (
                "SELECT id, status FROM responses WHERE status <> json_extract(body, '$.status')"
            ),
            "a lock that nobody holds": "SELECT id, locked_by FROM conversations WHERE locked_by IS NOT NULL",
            "an ingestion that never ends": (
                "SELECT store_id, file_id FROM attachments WHERE status NOT IN ('completed', 'failed', "
                "'cancelled')"
            ),
            "a claim that nobody holds": (
                "SELECT store_id, file_id FROM attachments WHERE status <> 'in_progress' AND leased_until > 0"
            ),
            "a key that stands for nothing": "SELECT key FROM idempotency_keys WHERE created IS NULL",
            "a turn of a response that did not complete": (
                "SELECT i.conversation_id, i.response_id FROM conversation_items i JOIN responses r ON "
                "r.id = i.response_id"
                " WHERE r.status NOT IN ('completed', 'incomplete')"
            ),
            "a completed response whose turn is not in its conversation": (
                "SELECT r.id FROM responses r JOIN conversations c ON c.id = r.conversation_id JOIN "
                "response_items i ON i.response_id = r.id"
                " LEFT JOIN conversation_items k ON k.conversation_id = c.id AND k.id = i.id WHERE "
                "r.status = 'completed' AND k.id IS NULL"
            ),
        }.items()
        for row in rows(database, statement)
    ]
    items = rows(
        database, "SELECT response_id, direction, body FROM response_items ORDER BY response_id, position"
    )
    said: dict[tuple[str, str], str] = {}
    for response, direction, body in items:
        item = json.loads(body)
        if item["type"] == "message":
            content = item["content"]
            text = content if isinstance(content, str) else "".join(part["text"] for part in content)
            said[response, direction] = said.get((response, direction), "") + text
    for (response,) in rows(database, "SELECT id FROM responses WHERE status = 'completed'"):
        if said.get((response, "output")) != expected(said.get((response, "input"), "")):
            found.append(f"a completed response without its items: {response}")
    return found


def orphans(data: Path) -> list[str]:
    """Return files and chunks without a row, and rows without theirs. The gateway must have ended, and
    must have collected.
    """
    database = data / "regate.db"
    known = {file for (file,) in rows(database, "SELECT id FROM files")}
    kept = {path.name for path in (data / "files").iterdir()}
    found = [f"bytes without a file: {name}" for name in sorted(kept - known)] + [
        f"a file without bytes: {name}" for name in known - kept
    ]
    counting = "SELECT store_id, file_id, chunks FROM attachments WHERE status = 'completed'"
    wanted = {(store, file): count for store, file, count in rows(database, counting)}
    present = chunks_in(data / "vector" / "main")
    found += [f"chunks that belong to nothing: {pair}" for pair in present if pair not in wanted]
    found += [
        f"{present[pair]} of {count} chunks: {pair}"
        for pair, count in wanted.items()
        if present[pair] != count
    ]
    return found


def chunks_in(place: Path) -> Counter[tuple[str, str]]:
    """Return how many chunks the local engine holds of each store and file."""
    with closing(sqlite3.connect(place / "vectors.db")) as connection:
        rows = connection.execute(
            "SELECT stores.id, file, count(*) FROM chunks JOIN stores ON stores.number = store "
            "GROUP BY store, file"
        ).fetchall()
    return Counter({(store.decode(), file.decode()): count for store, file, count in rows})


def age_unfinished_writes(data: Path) -> None:
    """Make what was being written look a day old, as the storage tells it by the disk's own time."""
    for part in (data / "files").glob("*.part"):
        os.utime(part, (0, 0))
