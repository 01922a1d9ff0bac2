"""What a policy demands of a call that it permits: done, or the call does not run, the model is told
so, and the record says why.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.deployments import only_on
from tests.e2e.conftest import ScriptedUpstream, World, text, tool_call
from tests.e2e.test_responses import leave_store, search_tool

from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running

pytestmark = only_on("embedded")

Open = Callable[[str, str], AbstractAsyncContextManager[World]]

# what the policy demands -> a text of the shipped tool rules and what stands in its place, what the record
# says
MOST = '{"max_result_bytes": _most_bytes}])'
DEMANDS: dict[str, tuple[str, str, str]] = {
    "approval": ("input.tool.side_effect == false\n", "input.tool.side_effect == true\n",
        "approval_needed: there is nobody to ask"),
    "approval, in other words": ("needs_approval := false if {", 'needs_approval := "no" if {',
        "needs_approval: is neither true nor false"),
    "nothing is said of approval": ("default needs_approval := true\n", "",
        "needs_approval: is neither true nor false"),
    "what is not known": (MOST, '{"max_result_bytes": 9, "keep_s": 5}])',
        "obligation keep_s: is not done here"),
    "a deadline that is none": (MOST, '{"max_result_bytes": 9, "deadline_s": 0}])',
        "obligation deadline_s: is no number above 0"),
    "a largest argument that is no number": (
        MOST, '{"max_result_bytes": 9, "max_arguments": {"top": "5"}}])',
        "obligation max_arguments: is no object of numbers"),
    "names that are none": (MOST, '{"max_result_bytes": 9, "redact": [1]}])',
        "obligation redact: is no list of names"),
    "a size that is none": (MOST, '{"max_result_bytes": "9"}])',
        "obligation max_result_bytes: is no whole number"),
    "nothing is said of obligations": ("_catalogued := {", "_catalogued := {} if false\n\n_unused := {",
        "obligations: are no object"),
}  # fmt: skip


@pytest.fixture
def opened(configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path) -> Open:
    """Opens a gateway whose tool rules are changed so."""

    @asynccontextmanager
    async def world(old: str, new: str) -> AsyncIterator[World]:
        rules = policies / "tool" / "tool.rego"
        said = rules.read_text()
        assert old in said
        said = said.replace(old, new)
        if (
            "default needs_approval" not in said
        ):  # and then it is undefined, since nothing is permitted without
            said = said.replace("input.tool.side_effect == false\n", "input.tool.side_effect == true\n")
        rules.write_text(said)
        settings = configure()
        app, gateway = gateway_app(settings)
        async with Running(app, settings.listen) as server:
            running = World(server.url, settings, gateway, upstream, policies)
            yield running
            for client in running.clients:
                await client.close()

    return world


async def searched(world: World) -> tuple[Any, str]:
    """Have the model search; return the response, and what it was told of its call."""
    alice, store, _ = await leave_store(world)
    world.upstream.turns = [tool_call("file_search", {"query": "leave"}), text("I could not look.")]
    response = await alice.responses.create(model="small", input="Leave?", tools=[search_tool(store)])
    (told,) = [
        message["content"] for message in world.upstream.requests[-1]["messages"] if message["role"] == "tool"
    ]
    return response, told


@pytest.mark.parametrize("name", DEMANDS)
async def test_a_call_that_needs_what_is_not_there_does_not_run(name: str, opened: Open) -> None:
    old, new, reason = DEMANDS[name]
    async with opened(old, new) as world:
        response, told = await searched(world)
        (refused,) = world.audit(phase="tool.refused")
        chunks = world.audit(phase="chunk.read", response_id=response.id)

    assert (
        response.status,
        [item.status for item in response.output if item.type == "file_search_call"],
    ) == ("completed", ["failed"])
    assert (told, chunks) == ("The search did not run: it is not permitted.", [])
    assert (refused["kind"], refused["about"], refused["reasons"]) == ("refused", "file_search", [reason])


async def test_what_is_demanded_is_asked_beside_the_decision_and_recorded_with_it(world: World) -> None:
    _, told = await searched(world)
    (decided,) = [
        one for record in world.audit() for one in record.get("decisions", ()) if one["action"] == "tool.call"
    ]

    assert "blue-heron" in told
    assert (decided["allowed"], decided["companions"]) == (True, ["needs_approval", "obligations"])
    assert decided["qualities"] == {"needs_approval": False, "obligations": {"max_result_bytes": 4_194_304}}


async def test_a_result_larger_than_the_call_may_have_does_not_enter_the_prompt(opened: Open) -> None:
    async with opened(MOST, '{"max_result_bytes": 9}])') as world:
        _, told = await searched(world)
        admitted = [
            one
            for record in world.audit()
            for one in record.get("decisions", ())
            if one["action"] == "tool.result"
        ]

    assert [one["allowed"] for one in admitted] == [True]  # by the rule that bounds all results
    assert "blue-heron" not in told
