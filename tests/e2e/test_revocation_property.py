"""Whatever a conversation was, and however it goes on: once a thing that it rests on is revoked, no prompt
holds it, nor what the model had made of it; what did not rest on it stays.

Each example is drawn from its own seed, which is its name. The model copies what it reads: of `src-1a` it
writes `der-1a`, and of `der-1a` the same again.
"""

from __future__ import annotations

import json
import random
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

import openai
import pytest
import pytest_asyncio
from tests.e2e.conftest import text
from tests.e2e.exfiltration_world import Arena, call, opened_arena, server
from tests.e2e.test_retrieval import ingest

pytestmark = pytest.mark.asyncio(loop_scope="module")

EXAMPLES: Final = 12
_COPIED: Final = re.compile(r"(?:src|der)-(\w+)")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def arena(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Arena]:
    async with opened_arena(tmp_path_factory.mktemp("revocation")) as arena:
        yield arena


async def put(arena: Arena, document: dict[str, Any]) -> None:
    """Have these be the operators' data, and wait until they are in force."""
    data = arena.policies / "data.json"
    if json.loads(data.read_text()) == document:
        return
    before = await arena.gateway.revision()
    data.write_text(json.dumps(document))
    async with arena.http() as http:
        while await arena.gateway.revision() == before:
            await http.get("/models")


async def changed(arena: Arena, name: str, **members: Any) -> None:
    """Have members of one of the operators' documents be these; None takes one away."""
    document = json.loads((arena.policies / "data.json").read_text())
    found = document["regate"][name] | members
    document["regate"][name] = {key: value for key, value in found.items() if value is not None}
    await put(arena, document)


@dataclass
class Thing(ABC):
    """Something that a model can read, which holds its marker, and the ways to revoke it."""

    arena: Arena
    client: openai.AsyncOpenAI
    marker: str
    request: dict[str, Any] = field(default_factory=dict)
    """What a request has in which it is read."""
    called: tuple[str, dict[str, Any]] | None = None
    """The call by which the model reads it, if it needs one."""

    @property
    def said(self) -> str:
        return f"About leave: src-{self.marker}."

    @abstractmethod
    async def prepare(self) -> None:
        """Have it be there."""

    @abstractmethod
    async def revoke(self, draw: random.Random) -> str:
        """Revoke it in one of its ways; return which."""


class Document(Thing):
    """A document in a store."""

    async def prepare(self) -> None:
        self.store = (await self.client.vector_stores.create(name="s")).id
        self.file = await ingest(self.client, self.store, "leave.md", self.said)
        self.request = {"tools": [{"type": "file_search", "vector_store_ids": [self.store]}]}
        self.called = ("file_search", {"query": "leave"})

    async def revoke(self, draw: random.Random) -> str:
        way = draw.choice(["file deleted", "file detached", "label restricted", "store deleted"])
        if way == "file deleted":
            await self.client.files.delete(self.file)
        elif way == "file detached":
            await self.client.vector_stores.files.delete(self.file, vector_store_id=self.store)
        elif way == "store deleted":
            await self.client.vector_stores.delete(self.store)
        else:
            await self.client.vector_stores.files.update(
                self.file, vector_store_id=self.store, attributes={"regate.labels": "hr-only"}
            )
        return way


class Enclosed(Thing):
    """A file in a message."""

    async def prepare(self) -> None:
        made = await self.client.files.create(file=("a.md", self.said.encode()), purpose="user_data")
        self.file = made.id
        self.request = {"parts": [{"type": "input_file", "file_id": made.id}]}

    async def revoke(self, draw: random.Random) -> str:
        await self.client.files.delete(self.file)
        return "file deleted"


class Returned(Thing):
    """What a server's tool returned."""

    async def prepare(self) -> None:
        self.arena.outside.results["tickets/search"] = self.said
        self.request = {"tools": [server("tickets")]}
        self.called = ("tickets/search", {})

    async def revoke(self, draw: random.Random) -> str:
        way = draw.choice(["grant withdrawn", "tool denied"])
        if way == "grant withdrawn":
            await changed(self.arena, "tools", **{"tickets/search": None})
        else:
            await changed(self.arena, "denied_tools", **{"tickets/search": "nobody"})
        return way


class Found(Thing):
    """What a search of the web found."""

    async def prepare(self) -> None:
        hit = {"url": "https://www.news.example/leave", "title": "Leave", "content": self.said}
        self.arena.outside.hits.append(hit)
        self.request = {"tools": [{"type": "web_search"}]}
        self.called = ("web_search", {"queries": ["leave"]})

    async def revoke(self, draw: random.Random) -> str:
        await changed(self.arena, "denied_domains", **{"news.example": "nobody"})
        return "domain denied"


KINDS: Final[tuple[type[Thing], ...]] = (Document, Enclosed, Returned, Found)


async def copying(upstream: Any, request: Any) -> Any:
    """Answer with what was made of all that stands in the prompt."""
    markers = sorted(set(_COPIED.findall(json.dumps(upstream.requests[-1]["messages"]))))
    upstream.turns.insert(0, text(" ".join(f"der-{one}." for one in markers) or "Nothing."))
    return await upstream.chat(request)


@dataclass
class Conversation:
    """A conversation as it was drawn, with all that was answered."""

    arena: Arena
    client: openai.AsyncOpenAI
    draw: random.Random
    held: str | None
    """The conversation that holds it; None where each turn continues from the one before."""
    answers: list[Any] = field(default_factory=list)

    @property
    def continued(self) -> dict[str, Any]:
        if self.held is not None:
            return {"conversation": self.held}
        return {"previous_response_id": self.answers[-1].id} if self.answers else {}

    async def turn(self, thing: Thing | None) -> str:
        """Have one more turn, in which the model reads the thing; return its last prompt."""
        request = dict(thing.request) if thing is not None else {}
        parts = [{"type": "input_text", "text": f"usr-{len(self.answers)}."}, *request.pop("parts", ())]
        calls = [call(*thing.called)] if thing is not None and thing.called is not None else []
        body = {"input": [{"role": "user", "content": parts}], **request, **self.continued}
        return await self.asked([*calls, copying], **body)

    async def asked(self, turns: list[Any], **body: Any) -> str:
        upstream = self.arena.upstream
        upstream.turns, at = turns, len(upstream.requests)
        way = self.draw.choice(["plain", "stream", "background"])
        given: dict[str, Any] = {"model": "small", **body}
        if way == "stream":
            events = [event async for event in await self.client.responses.create(**given, stream=True)]
            answer = events[-1].response
        elif way == "background":
            answer = await self.client.responses.create(**given, background=True)
            async for _ in await self.client.responses.retrieve(answer.id, stream=True):
                pass
            answer = await self.client.responses.retrieve(answer.id)
        else:
            answer = await self.client.responses.create(**given)
        assert answer.status == "completed", answer.to_json()
        self.answers.append(answer)
        return json.dumps(upstream.requests[at:])

    @property
    def references(self) -> list[Any]:
        outputs = (item for answer in self.answers for item in answer.output)
        return [{"type": "item_reference", "id": item.id} for item in outputs]

    async def compacted(self) -> list[Any]:
        """Return the items of its summary."""
        self.arena.upstream.turns = [copying]
        whole: dict[str, Any] = {"previous_response_id": self.answers[-1].id}
        if self.held is not None:  # there is nothing that continues from a conversation but its turns
            whole = {"input": self.references}
        made = await self.client.responses.compact(model="small", **whole)
        return [item.model_dump(exclude_none=True) for item in made.output]

    async def used(self, way: str, items: list[Any]) -> str:
        """Go on in this way; return all that models were sent for it."""
        at = len(self.arena.upstream.requests)
        ask: Any = {"role": "user", "content": "And now?"}
        if way == "references":
            items = self.references
        elif way == "compacted after":
            items = await self.compacted()
        more = self.continued if way == "continued" else {}
        await self.asked([copying], input=[*items, ask], **more)
        return json.dumps(self.arena.upstream.requests[at:])


@pytest.mark.parametrize("seed", range(EXAMPLES))
async def test_what_is_revoked_is_in_no_later_prompt_and_what_did_not_rest_on_it_stays(
    arena: Arena, seed: int
) -> None:
    draw = random.Random(seed)
    arena.begin()
    before = json.loads((arena.policies / "data.json").read_text())
    client = arena.client(f"user{seed}", teams=["hr"])
    kept, lost = (
        kind(arena, client, f"{seed}{name}") for kind, name in zip(draw.sample(KINDS, 2), "kl", strict=True)
    )
    held = (await client.conversations.create()).id if draw.random() < 0.4 else None
    conversation = Conversation(arena, client, draw, held)
    await kept.prepare()
    await lost.prepare()
    plan = [kept, *[None] * draw.randint(0, 1), lost, *[None] * draw.randint(0, 2)]
    for thing in plan:
        told = await conversation.turn(thing)
    assert {f"src-{lost.marker}", f"der-{kept.marker}"} <= set(re.findall(r"(?:src|der)-\w+", told))

    way = draw.choice(["continued", "continued", "references", "compacted before", "compacted after"])
    items = await conversation.compacted() if way == "compacted before" else []
    try:
        await lost.revoke(draw)
        later = await conversation.used(way, items)
        again = await conversation.turn(None)
        shown = [(await client.responses.retrieve(answer.id)).to_json() for answer in conversation.answers]
    finally:
        await put(arena, before)

    assert f"-{lost.marker}" not in later + again + "".join(shown)
    if way != "compacted before":  # a summary rests on all that it sums up
        assert f"der-{kept.marker}" in later
    if way == "continued":
        assert {f"src-{kept.marker}", *(f"usr-{at}." for at in range(len(plan)))} <= set(
            re.findall(rf"src-{kept.marker}|usr-\d+\.", later)
        )
