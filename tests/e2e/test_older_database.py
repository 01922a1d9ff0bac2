"""A gateway over the state database of an earlier version: what was stored there is served as it was, and is
gone on from.

`fixtures/databases/` holds what the version of each schema revision wrote, as SQL, and what it answered.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.deployments import only_on
from tests.e2e.conftest import ScriptedUpstream, World, text
from tests.e2e.test_idempotency import events_of

from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running

pytestmark = only_on("embedded")

DATABASES = Path(__file__).parents[1] / "fixtures" / "databases"
OLDER = json.loads((DATABASES / "gateways.json").read_text())
IDS = OLDER["ids"]


@pytest.fixture
async def older(
    configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path, tmp_path: Path
) -> AsyncIterator[World]:
    """A gateway of this version that was started over the database a minute after the other stopped."""
    (tmp_path / "data").mkdir()
    connection = sqlite3.connect(tmp_path / "data" / "regate.db")
    connection.executescript((DATABASES / "gateways.sql").read_text())
    connection.close()
    settings = configure()
    app, gateway = gateway_app(settings, clock=lambda: OLDER["made_at"] + 60)
    async with Running(app, settings.listen) as server:
        running = World(server.url, settings, gateway, upstream, policies)
        yield running
        for client in running.clients:
            await client.close()


async def test_everything_is_answered_as_the_earlier_version_answered_it(older: World) -> None:
    async with older.http() as http:
        answers = {path: (await http.get(path)).json() for path in OLDER["answers"]}
    assert answers == OLDER["answers"]


async def test_nothing_of_it_is_there_for_another_tenant(older: World) -> None:
    async with older.http("gita", "globex") as http:
        answers = {path: await http.get(path) for path in OLDER["answers"]}
    lists = {path for path, answer in answers.items() if answer.status_code == 200}
    assert (lists, [answers[path].json()["data"] for path in lists]) == (
        {"/files", "/vector_stores", "/prompts"},
        [[]] * 3,
    )


async def test_the_log_of_a_background_response_is_streamed_again(older: World) -> None:
    async with older.http() as http:
        answer = await http.get(f"/responses/{IDS['background']}", params={"stream": True})
    told = [json.loads(line[6:]) for line in OLDER["log"].splitlines() if line.startswith("data: {")]
    padding = {"obfuscation": None}  # is random in each answer
    assert [event | padding for event in events_of(answer)] == [event | padding for event in told]


async def test_a_chain_is_gone_on_from_with_all_that_it_rests_on(older: World) -> None:
    client = older.client()
    older.upstream.turns = [text("In all."), text("I cannot say.")]
    await client.responses.create(model="small", input="Really?", previous_response_id=IDS["response"])
    with_source = older.upstream.prompt
    await client.vector_stores.files.delete(IDS["file"], vector_store_id=IDS["store"])
    await client.responses.create(model="small", input="Really?", previous_response_id=IDS["response"])
    assert ("28 days" in with_source, "28 days" in older.upstream.prompt) == (True, False)


async def test_a_conversation_is_gone_on_from(older: World) -> None:
    client = older.client()
    older.upstream.turns = [text("Ann.")]
    await client.responses.create(model="small", input="Who am I?", conversation=IDS["conversation"])
    listed = await client.conversations.items.list(IDS["conversation"], order="asc")
    said = [item.content[0].text for item in listed.data]  # type: ignore[union-attr]
    assert ("My name is Ann." in older.upstream.prompt, said) == (
        True,
        ["My name is Ann.", "Greet me.", "Hello Ann.", "Who am I?", "Ann."],
    )


async def test_a_prompt_is_used(older: World) -> None:
    prompt: Any = {"id": IDS["prompt"], "variables": {"city": "Lyon"}}
    await older.client().responses.create(model="small", prompt=prompt, input="Now?")
    assert "Weather of Lyon." in older.upstream.prompt


async def test_a_key_of_before_makes_nothing_again(older: World) -> None:
    ask = {"model": "small", "input": "Who are you?"}
    async with older.http() as http:
        answer = await http.post("/responses", json=ask, headers={"Idempotency-Key": "key-1"})
    assert (answer.json()["error"]["code"], older.upstream.requests) == ("idempotency_key_reused", [])


async def test_new_rows_come_after_its_own(older: World) -> None:
    client = older.client()
    store = await client.vector_stores.create(name="new")
    file = ("sick.md", b"Whoever is sick calls before nine.")
    attached = await client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=file)
    found = await client.vector_stores.search(store.id, query="sick")
    files, stores = await client.files.list(), await client.vector_stores.list()
    assert (attached.status, [hit.filename for hit in found.data]) == ("completed", ["sick.md"])
    assert ([one.filename for one in files.data], [one.name for one in stores.data]) == (
        ["sick.md", "notes.txt", "leave.md"],
        ["new", "handbook"],
    )
