"""What a turn is made from beside its text: referred items, sealed items, images and files; each
decided, in each turn anew.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import openai
import pytest
from tests.e2e.conftest import World, ended, text, tool_call

IMAGE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PNG = base64.b64decode(IMAGE)


def thinking(reasoning: str, answer: str) -> list[dict[str, Any]]:
    return [{"choices": [{"index": 0, "delta": {"reasoning": reasoning}}]}, *text(answer)]


def messages(world: World) -> list[dict[str, Any]]:
    return world.upstream.requests[-1]["messages"]


# ---------------------------------------------------------------- item_reference


async def test_referred_item_stands_in_the_prompt_where_it_was_referred_to(world: World) -> None:
    client = world.client()
    world.upstream.turns = [text("Paris."), text("About two million.")]
    first = await client.responses.create(model="small", input="What is the capital of France?")
    items: Any = [
        {"role": "user", "content": "What is the capital of France?"},
        {"type": "item_reference", "id": first.output[0].id},
        {"role": "user", "content": "How many live there?"},
    ]
    second = await client.responses.create(model="small", input=items)
    listed = await client.responses.input_items.list(second.id, order="asc")

    assert [message["content"] for message in messages(world)] == [
        "What is the capital of France?",
        "Paris.",
        "How many live there?",
    ]
    assert listed.data[1].id == first.output[0].id


@pytest.mark.parametrize("subject", ["alice", "mallory"])
async def test_foreign_item_cannot_be_referred_to_and_looks_absent(world: World, subject: str) -> None:
    world.upstream.turns = [text("My secret.")]
    mine = await world.client("bob").responses.create(model="small", input="Hi")
    answers = []
    async with world.http(subject) as http:
        for identifier in (mine.output[0].id, "msg_" + "0" * 48):
            answer = await http.post("/responses", json={"model": "small", "input": [{"id": identifier}]})
            answers.append((answer.status_code, answer.text.replace(identifier, "ID")))

    assert answers[0] == answers[1]
    assert answers[0][0] == 404
    assert len(world.upstream.requests) == 1


async def test_reference_to_what_the_conversation_holds_already_adds_nothing(world: World) -> None:
    client = world.client()
    world.upstream.turns = [text("Paris."), text("Yes.")]
    first = await client.responses.create(model="small", input="Capital?")
    again: Any = [{"type": "item_reference", "id": first.output[0].id}, {"role": "user", "content": "Sure?"}]
    await client.responses.create(model="small", previous_response_id=first.id, input=again)

    assert [message["content"] for message in messages(world)] == ["Capital?", "Paris.", "Sure?"]


async def test_item_that_is_referred_to_twice_is_read_once(world: World) -> None:
    client = world.client()
    world.upstream.turns = [text("Paris."), text("Yes.")]
    first = await client.responses.create(model="small", input="Capital?")
    reference: Any = {"type": "item_reference", "id": first.output[0].id}
    await client.responses.create(
        model="small", input=[reference, reference, {"role": "user", "content": "Sure?"}]
    )

    assert [message["content"] for message in messages(world)] == ["Paris.", "Sure?"]


async def test_referred_answer_whose_source_was_detached_is_withheld(world: World) -> None:
    client = world.client()
    store = await client.vector_stores.create(name="handbook")
    file = await client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("leave.md", b"Everyone has 28 days of leave.")
    )
    world.upstream.turns = [
        tool_call("file_search", {"query": "leave"}),
        text("28 days 【1】."),
        text("I do not know."),
    ]
    tools: Any = [{"type": "file_search", "vector_store_ids": [store.id]}]
    first = await client.responses.create(model="small", input="How many days?", tools=tools)
    await client.vector_stores.files.delete(file.id, vector_store_id=store.id)
    again: Any = [{"type": "item_reference", "id": first.output[1].id}, {"role": "user", "content": "Again?"}]
    await client.responses.create(model="small", input=again)

    assert "28 days" not in world.upstream.prompt
    assert "withheld" in world.upstream.prompt


# ---------------------------------------------------------------- sealed items


async def test_sealed_reasoning_goes_out_when_asked_for_and_comes_back(world: World) -> None:
    client = world.client()
    world.upstream.turns = [thinking("Let me see.", "Four."), text("Eight.")]
    include: Any = ["reasoning.encrypted_content"]
    first = await client.responses.create(model="small", input="2+2?", store=False, include=include)
    reasoning, message = first.output
    history: Any = [
        {"role": "user", "content": "2+2?"},
        reasoning.to_dict(),
        message.to_dict(),
        {"role": "user", "content": "Twice that?"},
    ]
    second = await client.responses.create(model="small", input=history, store=False)

    assert reasoning.type == "reasoning"
    assert "Let me see" not in (reasoning.encrypted_content or "")
    assert second.output_text == "Eight."


@pytest.mark.parametrize(
    ("subject", "tenant", "model", "spoil"),
    [("mallory", "globex", "small", ""), ("alice", "acme", "large", ""), ("alice", "acme", "small", "x")],
    ids=["tenant", "model", "tampered"],
)
async def test_sealed_reasoning_opens_only_where_it_was_made(
    world: World, subject: str, tenant: str, model: str, spoil: str
) -> None:
    world.upstream.turns = [thinking("Let me see.", "Four.")]
    include: Any = ["reasoning.encrypted_content"]
    first = await world.client().responses.create(model="small", input="2+2?", store=False, include=include)
    item = first.output[0].to_dict()
    item["encrypted_content"] = spoil + str(item["encrypted_content"])
    with pytest.raises(openai.BadRequestError) as refused:
        await world.client(subject, tenant).responses.create(
            model=model, input=[item, {"role": "user", "content": "?"}], store=False
        )  # type: ignore[list-item]

    assert refused.value.code == "invalid_encrypted_content"
    assert len(world.upstream.requests) == 1


async def test_reasoning_is_sealed_in_done_and_not_in_added(world: World) -> None:
    world.upstream.turns = [thinking("Let me see.", "Four.")]
    include: Any = ["reasoning.encrypted_content"]
    stream = await world.client().responses.create(model="small", input="2+2?", include=include, stream=True)
    items = [
        event.item.to_dict()
        async for event in stream
        if event.type in ("response.output_item.added", "response.output_item.done")
    ]

    assert ["encrypted_content" in item for item in items if item["type"] == "reasoning"] == [False, True]


async def test_reasoning_is_given_as_a_summary_when_that_is_asked_for(world: World) -> None:
    world.upstream.turns = [thinking("Let me see.", "Four.")]
    stream = await world.client().responses.create(
        model="small", input="2+2?", reasoning={"summary": "auto"}, stream=True
    )
    events = [event async for event in stream]
    kinds = [event.type for event in events]

    assert "response.reasoning_summary_text.delta" in kinds
    assert not any(kind.startswith("response.reasoning_text") for kind in kinds)
    assert events[-1].response.output[0].summary[0].text == "Let me see."  # type: ignore[union-attr]


# ---------------------------------------------------------------- compaction


async def test_compacted_conversation_goes_on_from_its_sealed_summary(world: World) -> None:
    client = world.client()
    world.upstream.turns = [text("Paris."), text("SUMMARY: they spoke of Paris."), text("Two million.")]
    first = await client.responses.create(model="small", input="Capital of France?")
    compacted = await client.responses.compact(model="small", previous_response_id=first.id)
    await client.responses.create(
        model="small",
        input=[*(item.to_dict() for item in compacted.output), {"role": "user", "content": "How many?"}],
    )  # type: ignore[list-item]

    assert (compacted.object, compacted.output[0].type) == ("response.compaction", "compaction")
    assert "SUMMARY" not in compacted.to_json()
    assert [message["role"] for message in messages(world)] == ["user", "user"]
    assert "SUMMARY: they spoke of Paris." in messages(world)[0]["content"]
    assert messages(world)[1]["content"] == "How many?"


async def test_long_conversation_is_summarised_before_the_answer_and_the_current_turn_is_kept_whole(
    world: World,
) -> None:
    client = world.client()
    management: Any = [{"type": "compaction", "compact_threshold": 1000}]
    world.upstream.turns = [text("Noted."), text("SUMMARY: a long text."), text("Sure."), text("Bye.")]
    first = await client.responses.create(model="small", input="word " * 2000)
    stream = await client.responses.create(
        model="small",
        input="And now?",
        previous_response_id=first.id,
        context_management=management,
        stream=True,
    )
    events = [event async for event in stream]
    second = events[-1].response  # type: ignore[union-attr]
    await client.responses.create(model="small", input="Bye", previous_response_id=second.id)

    assert [item.type for item in second.output] == ["compaction", "message"]
    assert [event.type for event in events][:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.output_item.done",
    ]
    assert "word word" not in world.upstream.prompt
    assert [message["content"] for message in messages(world)][1:] == ["And now?", "Sure.", "Bye"]
    assert "SUMMARY: a long text." in messages(world)[0]["content"]


async def test_summary_of_what_was_detached_is_withheld_with_it(world: World) -> None:
    client = world.client()
    store = await client.vector_stores.create(name="handbook")
    file = await client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("leave.md", b"Everyone has 28 days of leave.")
    )
    world.upstream.turns = [
        tool_call("file_search", {"query": "leave"}),
        text("28 days 【1】."),
        text("SUMMARY: 28 days."),
        text("I forgot."),
    ]
    tools: Any = [{"type": "file_search", "vector_store_ids": [store.id]}]
    first = await client.responses.create(model="small", input="How many days?", tools=tools)
    compacted = await client.responses.compact(model="small", previous_response_id=first.id)
    await client.vector_stores.files.delete(file.id, vector_store_id=store.id)
    await client.responses.create(
        model="small", input=[compacted.output[0].to_dict(), {"role": "user", "content": "How many?"}]
    )  # type: ignore[list-item]

    assert "28 days" not in world.upstream.prompt


# ---------------------------------------------------------------- images and files


async def test_image_by_id_or_data_url_reaches_the_model_as_data(world: World) -> None:
    client = world.client()
    file = await client.files.create(file=("dot.png", PNG), purpose="vision")
    data = "data:image/png;base64," + base64.b64encode(PNG).decode()
    content: Any = [
        {"type": "input_text", "text": "What are these?"},
        {"type": "input_image", "file_id": file.id, "detail": "low"},
        {"type": "input_image", "image_url": data},
    ]
    await client.responses.create(model="small", input=[{"role": "user", "content": content}])

    assert messages(world)[0]["content"] == [
        {"type": "text", "text": "What are these?"},
        {"type": "image_url", "image_url": {"url": data, "detail": "low"}},
        {"type": "image_url", "image_url": {"url": data}},
    ]


async def test_file_by_id_or_inline_reaches_the_model_as_text(world: World) -> None:
    client = world.client()
    file = await client.files.create(file=("leave.md", b"Everyone has 28 days."), purpose="user_data")
    inline = "data:text/plain;base64," + base64.b64encode(b"Nobody works on Sunday.").decode()
    content: Any = [
        {"type": "input_file", "file_id": file.id},
        {"type": "input_file", "file_data": inline, "filename": "rules.txt"},
    ]
    await client.responses.create(model="small", input=[{"role": "user", "content": content}])

    assert [part["text"] for part in messages(world)[0]["content"]] == [
        "[File: leave.md]\nEveryone has 28 days.",
        "[File: rules.txt]\nNobody works on Sunday.",
    ]


async def test_foreign_file_in_a_message_is_as_absent_and_nothing_is_asked(world: World) -> None:
    theirs = await world.client("bob", "globex").files.create(
        file=("secret.md", b"Secret."), purpose="user_data"
    )
    answers = []
    async with world.http() as http:
        for identifier in (theirs.id, "file-" + "0" * 48):
            content = [{"type": "input_file", "file_id": identifier}]
            answer = await http.post(
                "/responses", json={"model": "small", "input": [{"role": "user", "content": content}]}
            )
            answers.append((answer.status_code, answer.text.replace(identifier, "ID")))

    assert answers[0] == answers[1]
    assert answers[0][0] == 404
    assert world.upstream.requests == []


async def test_file_in_an_earlier_message_is_decided_again_and_leaves_with_its_deletion(world: World) -> None:
    client = world.client()
    file = await client.files.create(file=("leave.md", b"Everyone has 28 days."), purpose="user_data")
    content: Any = [{"type": "input_text", "text": "Read this."}, {"type": "input_file", "file_id": file.id}]
    first = await client.responses.create(model="small", input=[{"role": "user", "content": content}])
    second = await client.responses.create(model="small", input="And?", previous_response_id=first.id)
    assert "28 days" in world.upstream.prompt
    await client.files.delete(file.id)
    await client.responses.create(model="small", input="And now?", previous_response_id=second.id)

    assert "28 days" not in world.upstream.prompt
    assert "Read this." in world.upstream.prompt


NOT_READ: list[Any] = [
    {"type": "input_image", "image_url": "https://example.com/a.png"},
    {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
    {"type": "input_file", "file_data": "AAAA", "filename": "a.exe"},
]


async def test_what_cannot_be_read_into_a_message_is_the_callers_error(world: World) -> None:
    async with world.http() as http:
        answers = [
            await http.post(
                "/responses", json={"model": "small", "input": [{"role": "user", "content": [part]}]}
            )
            for part in NOT_READ
        ]

    told = [(answer.status_code, answer.json()["error"]["param"]) for answer in answers]
    assert told == [(400, "input")] * len(NOT_READ)
    assert world.upstream.requests == []


async def test_image_that_a_tool_returned_follows_its_tool_message(world: World) -> None:
    client = world.client()
    data = "data:image/png;base64," + base64.b64encode(PNG).decode()
    items: Any = [
        {"role": "user", "content": "Look."},
        {"type": "function_call", "call_id": "c1", "name": "camera", "arguments": "{}"},
        {
            "type": "function_call_output",
            "call_id": "c1",
            "output": [{"type": "input_text", "text": "Shot."}, {"type": "input_image", "image_url": data}],
        },
    ]
    await client.responses.create(model="small", input=items)

    assert [message["role"] for message in messages(world)] == ["user", "assistant", "tool", "user"]
    assert (messages(world)[2]["content"], messages(world)[3]["content"][1]["image_url"]["url"]) == (
        "Shot.",
        data,
    )


# ---------------------------------------------------------------- the window of the model


def too_long() -> Any:
    async def turn(_upstream: Any, _request: Any) -> Any:
        from aiohttp import web

        error = {
            "message": "This model's maximum context length is 10 tokens.",
            "code": "context_length_exceeded",
        }
        return web.json_response({"error": error}, status=400)

    return turn


async def test_overflow_is_a_400_unless_truncation_is_auto(world: World) -> None:
    client = world.client()
    world.upstream.turns = [text("One."), text("Two."), too_long(), too_long(), text("Three.")]
    first = await client.responses.create(model="small", input="1")
    second = await client.responses.create(model="small", input="2", previous_response_id=first.id)
    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.create(model="small", input="3", previous_response_id=second.id)
    third = await client.responses.create(
        model="small", input="3", previous_response_id=second.id, truncation="auto"
    )

    assert refused.value.code == "context_length_exceeded"
    assert third.output_text == "Three."
    assert [message["content"] for message in messages(world)] == ["3"]


async def test_input_tokens_are_estimated_without_asking_the_backend(world: World) -> None:
    client = world.client()
    short = await client.responses.input_tokens.count(model="small", input="Hello there.")
    long = await client.responses.input_tokens.count(model="small", input="Hello there. " * 100)

    assert (short.object, world.upstream.requests) == ("response.input_tokens", [])
    assert 0 < short.input_tokens < long.input_tokens


# ---------------------------------------------------------------- tools of the client


async def test_custom_tool_is_offered_as_a_function_and_its_free_text_restored(world: World) -> None:
    client = world.client()
    world.upstream.turns = [tool_call("apply_patch", {"input": "*** Begin"}), text("Done.")]
    tools: Any = [
        {"type": "custom", "name": "apply_patch", "description": "Patches.", "format": {"type": "text"}}
    ]
    stream = await client.responses.create(model="small", input="Patch it.", tools=tools, stream=True)
    events = [event async for event in stream]
    first = events[-1].response  # type: ignore[union-attr]
    output: Any = [{"type": "custom_tool_call_output", "call_id": first.output[0].call_id, "output": "ok"}]
    second = await client.responses.create(
        model="small", input=output, previous_response_id=first.id, tools=tools
    )

    assert (first.output[0].type, first.output[0].input) == ("custom_tool_call", "*** Begin")
    assert [event.input for event in events if event.type == "response.custom_tool_call_input.done"] == [
        "*** Begin"
    ]
    assert world.upstream.requests[0]["tools"][0]["function"]["name"] == "apply_patch"
    assert [message["role"] for message in messages(world)] == ["user", "assistant", "tool"]
    assert json.loads(messages(world)[1]["tool_calls"][0]["function"]["arguments"]) == {"input": "*** Begin"}
    assert second.output_text == "Done."


async def test_tools_of_a_namespace_are_flattened_for_the_backend_and_restored_for_the_client(
    world: World,
) -> None:
    client = world.client()
    world.upstream.turns = [tool_call("agents__spawn", {"name": "x"}), text("Spawned.")]
    function = {
        "type": "function",
        "name": "spawn",
        "description": "d",
        "parameters": {"type": "object"},
        "strict": False,
    }
    tools: Any = [
        {"type": "namespace", "name": "agents", "description": "Agents.", "tools": [function]},
        {**function},
    ]
    first = await client.responses.create(model="small", input="Go.", tools=tools)
    call = first.output[0].to_dict()
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "ok"}
    await client.responses.create(
        model="small", input=[{"role": "user", "content": "Go."}, call, output], tools=tools
    )  # type: ignore[list-item]

    assert (call["name"], call["namespace"]) == ("spawn", "agents")
    assert [tool["function"]["name"] for tool in world.upstream.requests[0]["tools"]] == [
        "agents__spawn",
        "spawn",
    ]
    assert messages(world)[1]["tool_calls"][0]["function"]["name"] == "agents__spawn"


async def test_allowed_tools_is_a_hard_limit(world: World) -> None:
    client = world.client()
    world.upstream.turns = [tool_call("forbidden", {}), text("I may not.")]
    function = {"type": "function", "description": "d", "parameters": {"type": "object"}, "strict": False}
    tools: Any = [{**function, "name": "allowed"}, {**function, "name": "forbidden"}]
    choice: Any = {
        "type": "allowed_tools",
        "mode": "auto",
        "tools": [{"type": "function", "name": "allowed"}],
    }
    answer = await client.responses.create(model="small", input="Go.", tools=tools, tool_choice=choice)

    assert [tool["function"]["name"] for tool in world.upstream.requests[0]["tools"]] == ["allowed"]
    assert [item.type for item in answer.output] == ["message"]
    assert answer.tool_choice.to_dict() == choice  # type: ignore[union-attr]


async def test_tool_that_policy_hides_is_not_offered(world: World) -> None:
    data = json.loads((world.policies / "data.json").read_text())
    data["regate"]["denied_tools"] = {"weather": "meteorologist"}
    (world.policies / "data.json").write_text(json.dumps(data))
    client = world.client()
    function: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}
    async for _ in _polls():
        await client.responses.create(model="small", input="Sunny?", tools=[function])
        if "tools" not in world.upstream.requests[-1]:
            break

    assert "tools" not in world.upstream.requests[-1]


async def _polls() -> Any:
    """Turns at which something may have come about; the deadline ends the test."""
    import asyncio

    async with asyncio.timeout(120):
        while True:
            yield
            await asyncio.sleep(0.05)


async def test_vacuous_tools_are_echoed_and_not_offered(world: World) -> None:
    tools: Any = [
        {"type": "web_search", "external_web_access": False},
        {"type": "tool_search", "execution": "server"},
    ]
    async with world.http() as http:
        answer = await http.post("/responses", json={"model": "small", "input": "Hi", "tools": tools})

    assert answer.json()["tools"] == tools
    assert "tools" not in world.upstream.requests[-1]


async def test_log_probabilities_are_passed_on_when_asked_for(world: World) -> None:
    client = world.client()
    token = {
        "token": "Yes",
        "logprob": -0.1,
        "bytes": [89],
        "top_logprobs": [{"token": "No", "logprob": -2.0, "bytes": None}],
    }
    world.upstream.turns = [
        [
            {"choices": [{"index": 0, "delta": {"content": "Yes"}, "logprobs": {"content": [token]}}]},
            ended("stop"),
        ]
    ]
    include: Any = ["message.output_text.logprobs"]
    answer = await client.responses.create(model="small", input="Sure?", top_logprobs=1, include=include)
    part = answer.output[0].content[0]  # type: ignore[union-attr]

    assert (world.upstream.requests[0]["logprobs"], world.upstream.requests[0]["top_logprobs"]) == (True, 1)
    assert (part.logprobs[0].token, part.logprobs[0].top_logprobs[0].token) == ("Yes", "No")  # type: ignore[union-attr,index]


@pytest.mark.parametrize("wanted", [True, False])
async def test_deltas_are_padded_unless_the_client_wants_none_of_it(world: World, wanted: bool) -> None:
    stream = await world.client().responses.create(
        model="small", input="Hi", stream=True, stream_options={"include_obfuscation": wanted}
    )
    deltas = [event.to_dict() async for event in stream if event.type == "response.output_text.delta"]

    assert deltas
    assert all(("obfuscation" in delta) == wanted for delta in deltas)
    assert not wanted or {
        len((str(delta["delta"]) + str(delta["obfuscation"])).encode()) % 16 for delta in deltas
    } == {0}


INLINE = {
    "data:text/plain;charset=utf-8;base64,aGVsbG8=": "hello",
    "data:,hello%20there": "hello there",
    "data:text/plain;charset=iso-8859-1,caf%E9": "caf\u00e9",
    'DATA:text/csv;name="a;b.csv";charset=Shift_JIS;base64,jF+W8Q==': "\u5951\u7d04",
    "data:text/html,%3Cp%3EHi%3C/p%3E": "Hi",
}


async def test_inline_files_come_as_any_data_url(world: World) -> None:
    read: list[str] = []
    async with world.http() as http:
        for address in INLINE:
            world.upstream.turns = [text("Read.")]
            content = [
                {"type": "input_text", "text": "Read it."},
                {"type": "input_file", "file_data": address},
            ]
            answer = await http.post(
                "/responses", json={"model": "small", "input": [{"role": "user", "content": content}]}
            )
            sent = world.upstream.requests[-1]["messages"][-1]["content"]
            read.append(f"{answer.status_code} {sent[-1]['text'].partition(chr(10))[2]}")
        image = {"type": "input_image", "image_url": f"DATA:image/png;name=a.png;base64,{IMAGE}"}
        shown = await http.post(
            "/responses", json={"model": "small", "input": [{"role": "user", "content": [image]}]}
        )
        nonsense = [{"type": "input_file", "file_data": "data:text/plain;charset=nonsense,x"}]
        refused = await http.post(
            "/responses", json={"model": "small", "input": [{"role": "user", "content": nonsense}]}
        )

    assert read == [f"200 {expected}" for expected in INLINE.values()]
    assert (
        shown.status_code,
        world.upstream.requests[-1]["messages"][-1]["content"][-1]["image_url"]["url"],
    ) == (
        200,
        f"data:image/png;base64,{IMAGE}",
    )
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input")


async def test_assistant_that_said_nothing_may_have_null_content(world: World) -> None:
    said: list[dict[str, Any]] = [
        {"role": "user", "content": "Weather?"},
        {"type": "message", "role": "assistant", "content": None, "status": "completed"},
        {"type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "sun"},
    ]
    world.upstream.turns = [text("Sunny.")]
    async with world.http() as http:
        answer = await http.post("/responses", json={"model": "small", "input": said})
        items = (await http.get(f"/responses/{answer.json()['id']}/input_items?order=asc")).json()["data"]
        refused = await http.post(
            "/responses", json={"model": "small", "input": [{"role": "user", "content": None}]}
        )
        absent = await http.post("/responses", json={"model": "small", "input": [{"role": "assistant"}]})

    assert (answer.status_code, items[1]["content"]) == (200, [])
    assert [one.json()["error"]["param"] for one in (refused, absent)] == ["input[0].content"] * 2
