"""What the record of a turn takes does not grow with the conversation, and everything that was decided
can still be asked again.
"""

from __future__ import annotations

import pytest
from tests.e2e.conftest import World, text, tool_call
from tests.e2e.test_responses import leave_store, search_tool

from regate_adapters.audit.reading import read
from regate_adapters.audit.segments import segments_in
from regate_gateway.workbench.replay.recorded import questions_in

TURNS = 20


def written(world: World) -> int:
    return sum(path.stat().st_size for path in segments_in(world.settings.audit.path))


@pytest.mark.one_process
async def test_the_record_of_a_turn_does_not_grow_with_the_conversation_and_can_be_asked_again(
    world: World,
) -> None:
    alice, store, _ = await leave_store(world)
    world.upstream.turns = [
        tool_call("file_search", {"query": "parental leave"}),
        *(text(f"Answer {number}.") for number in range(TURNS)),
    ]
    previous, sizes = None, []
    for number in range(TURNS):
        before = written(world)
        made = await alice.responses.create(
            model="small",
            input=f"Question {number}",
            previous_response_id=previous,
            tools=[] if number else [search_tool(store)],
        )
        previous = made.id
        sizes.append(written(world) - before)
    (turn,) = [
        record for record in read(world.settings.audit.path, response_id=previous) if "batch" in record
    ]
    (batch,) = questions_in(turn).batches

    assert sizes[-1] < 1.1 * sizes[8]
    assert (
        sum(kind == "items" for kind, _ in batch.members)
        == len(turn["batch"]["items"]["asked"])
        >= 2 * (TURNS - 1)
    )
    assert all(decision.allowed for decision in batch.members.values())
