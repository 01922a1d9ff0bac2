"""The audit log of a real gateway proves itself, and tells the story of what it answered."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.deployments import only_on
from tests.e2e.conftest import World, text, tool_call
from tests.e2e.test_responses import leave_store, search_tool

from regate_gateway.cli.main import main
from regate_gateway.composition.auditing import signing_key

pytestmark = only_on("embedded")


async def audit(world: World, *arguments: str | Path) -> Result:
    log = ["--log", str(world.settings.audit.path)]
    return await asyncio.to_thread(
        CliRunner().invoke, main, ["audit", arguments[0], *map(str, arguments[1:]), *log]
    )


async def made(world: World) -> tuple[Any, str, str]:
    """An answer out of a search, with its store and file."""
    alice, store, file = await leave_store(world)
    world.upstream.turns = [tool_call("file_search", {"query": "parental leave"}), text("Sixteen weeks.")]
    answer = await alice.responses.create(model="small", input="How long?", tools=[search_tool(store)])
    return answer, store, file


async def test_the_story_of_an_answer_names_all_that_it_was_made_of(world: World) -> None:
    answer, store, file = await made(world)
    story = json.loads((await audit(world, "show", answer.id, "--json")).stdout)
    made_of, (request,) = story["made_of"], story["requests"]

    assert (made_of["models"], made_of["stores"], list(made_of["files"])) == (["small"], [store], [file])
    assert made_of["tools"] == {"file_search": 1}
    assert (request["subject"], request["tenant"]) == ("alice", "acme")
    assert all(
        decision["allowed"] is not False for step in request["steps"] for decision in step["decisions"]
    )


@pytest.mark.one_process
async def test_the_log_of_a_running_gateway_is_whole(world: World, tmp_path: Path) -> None:
    await made(world)
    key = tmp_path / "key.pem"
    key.write_text(signing_key(world.settings).public.pem)
    done = await audit(world, "verify", "--public-key", key, "--without-copies", "--json")

    found = json.loads(done.stdout)

    assert (found["chained_from"], found["first"]) == (1, 1)
    assert {fault["what"] for fault in found["faults"]} <= {"unsigned"}  # perhaps no checkpoint was due yet
