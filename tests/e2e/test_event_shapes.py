"""Events and Responses have every member that OpenAI's own types require, and those that Open
Responses requires beside.
"""

from __future__ import annotations

import json
from typing import Any, Final

from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter, ValidationError
from tests.deployments import only_on
from tests.e2e.conftest import World, ended, text, tool_call
from tests.e2e.test_responses import WEATHER, leave_store, search_tool
from tests.e2e.test_turn_context import thinking

pytestmark = only_on("embedded")

NEVER_NULL: Final[dict[str, type | tuple[type, ...]]] = {
    "tools": list,
    "tool_choice": (str, dict),
    "truncation": str,
    "parallel_tool_calls": bool,
    "text": dict,
    "top_p": float,
    "temperature": float,
    "presence_penalty": float,
    "frequency_penalty": float,
    "top_logprobs": int,
    "store": bool,
    "background": bool,
    "service_tier": str,
    "metadata": dict,
}
NULLABLE: Final = (
    *(
        "completed_at",
        "incomplete_details",
        "previous_response_id",
        "instructions",
        "error",
        "reasoning",
        "usage",
        "max_output_tokens",
    ),
    *("max_tool_calls", "safety_identifier", "prompt_cache_key"),
)


def chunk(**delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta}]}


def called(index: int, name: str, arguments: str) -> dict[str, Any]:
    return chunk(
        tool_calls=[
            {"index": index, "id": f"call_{index}", "function": {"name": name, "arguments": arguments}}
        ]
    )


def events_in(body: str) -> list[dict[str, Any]]:
    return [
        json.loads(block.split("data: ", 1)[1]) for block in body.split("\n\n") if block.startswith("event: ")
    ]


def faults(events: list[dict[str, Any]]) -> list[str]:
    """What OpenAI's types miss in these events."""
    known: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    found: list[str] = []
    for event in events:
        try:
            known.validate_python(event)
            if "response" in event:
                Response.model_validate(event["response"])
        except ValidationError as error:
            found.append(f"{event['type']}: {error}")
    return found


async def test_every_event_is_valid_by_the_clients_own_types(world: World) -> None:
    _, store, _ = await leave_store(world)
    tools = [search_tool(store), WEATHER, {"type": "custom", "name": "patch"}]
    everything = [
        *(chunk(reasoning="Hm."), chunk(content="Wait."), called(0, "file_search", '{"query": "leave"}')),
        *(called(1, "weather", "{}"), called(2, "patch", '{"input": "x"}'), ended("tool_calls")),
    ]
    scenes: list[tuple[list[Any], dict[str, Any]]] = [
        ([everything], {"tools": tools}),
        (
            [tool_call("file_search", {"query": "leave"}), text("28【1】.")],
            {"tools": tools, "include": ["file_search_call.results"]},
        ),
        ([[chunk(refusal="No."), ended("stop")]], {}),
        ([[chunk(content="Half"), ended("length")]], {}),
        ([[chunk(content="Half")]], {}),
        (
            [thinking("Hm.", "Yes.")],
            {"reasoning": {"summary": "auto"}, "include": ["reasoning.encrypted_content"]},
        ),
        ([text("Later.")], {"background": True}),
    ]
    kinds: set[str] = set()
    found: list[str] = []
    async with world.http("alice", "acme", teams=["hr"]) as http:
        for turns, more in scenes:
            world.upstream.turns = turns
            events = events_in(
                (
                    await http.post(
                        "/responses", json={"model": "small", "input": "Hi", "stream": True, **more}
                    )
                ).text
            )
            replayed = events_in(
                (await http.get(f"/responses/{events[-1]['response']['id']}?stream=true")).text
            )
            kinds |= {event["type"].removeprefix("response.") for event in events}
            found += faults(events) + faults(replayed)

    assert found == []
    assert kinds >= {
        "queued",
        "incomplete",
        "failed",
        "refusal.done",
        "reasoning_text.done",
        "reasoning_summary_part.done",
    }
    assert kinds >= {
        "custom_tool_call_input.done",
        "function_call_arguments.done",
        "file_search_call.completed",
    }
    assert kinds >= {"output_text.annotation.added", "output_item.done", "content_part.done"}


async def test_response_has_every_member_that_open_responses_requires(world: World) -> None:
    async with world.http() as http:
        made = (await http.post("/responses", json={"model": "small", "input": "Hi"})).json()

    assert {name for name in NULLABLE if name not in made} == set()
    assert {
        name: made.get(name) for name, kind in NEVER_NULL.items() if not isinstance(made.get(name), kind)
    } == {}
    assert made["usage"]["input_tokens_details"].keys() == {"cached_tokens", "cache_write_tokens"}
