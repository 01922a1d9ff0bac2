"""The official `openai` SDK, sync and async: every resource that the gateway serves, with the SDK's
own helpers.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import openai
import pytest
from openai.types.responses import ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter
from tests.clients.model import MODELS, embedding_of
from tests.clients.serving import Served
from tests.media import pdf_bytes, png_bytes

TICKETS: Any = {"type": "mcp", "server_label": "tickets", "require_approval": "never"}
SEARCHING: Any = {"model": "small", "input": "mcp__tickets__search('lamp')"}
ENDS = {"never": ["mcp_call", "message"], "always": ["mcp_approval_request"]}
validated = TypeAdapter[Any](ResponseStreamEvent).validate_python
TEXT = b"The lighthouse of Alderney is open on Sundays. " * 5


class Place(BaseModel):
    """What a question is about."""

    city: str


@dataclass(frozen=True, slots=True)
class Sdk:
    """One of the SDK's two clients behind one spelling, so that each test is made with both."""

    client: Any

    async def __call__(self, call: Callable[[Any], Any]) -> Any:
        """The result of a call."""
        return await (
            asyncio.to_thread(call, self.client)
            if isinstance(self.client, openai.OpenAI)
            else call(self.client)
        )

    async def all(self, call: Callable[[Any], Any]) -> list[Any]:
        """Everything that a stream brings, or all pages of a list."""
        if isinstance(self.client, openai.OpenAI):
            return await asyncio.to_thread(lambda: list(call(self.client)))
        result = call(self.client)
        return [element async for element in (result if hasattr(result, "__aiter__") else await result)]

    async def streamed(self, call: Callable[[Any], Any]) -> tuple[list[Any], Any]:
        """The events of a stream helper, and its final snapshot."""

        def run() -> tuple[list[Any], Any]:
            with call(self.client) as stream:
                return list(stream), _final(stream)

        if isinstance(self.client, openai.OpenAI):
            return await asyncio.to_thread(run)
        async with call(self.client) as stream:
            return [event async for event in stream], await _final(stream)

    async def over_websocket(self, *turns: dict[str, Any]) -> list[Any]:
        """The last event of each turn, all on one connection; a turn is told the response before it."""

        def ended(event: Any) -> bool:
            return event.type in ("response.completed", "response.failed", "response.incomplete", "error")

        def run() -> list[Any]:
            last: list[Any] = []
            with self.client.responses.connect() as connection:
                for turn in turns:
                    connection.response.create(**_after(last, turn))
                    last.append(next(event for event in connection if ended(event)))
            return last

        if isinstance(self.client, openai.OpenAI):
            return await asyncio.to_thread(run)
        last: list[Any] = []
        async with self.client.responses.connect() as connection:
            for turn in turns:
                await connection.response.create(**_after(last, turn))
                async for event in connection:
                    if ended(event):
                        last.append(event)
                        break
        return last


def _after(last: list[Any], turn: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": "small",
        **({"previous_response_id": last[-1].response.id} if last and last[-1].type != "error" else {}),
        **turn,
    }


def _final(stream: Any) -> Any:
    return (
        stream.get_final_response()
        if hasattr(stream, "get_final_response")
        else stream.get_final_completion()
    )


@pytest.fixture(params=[openai.OpenAI, openai.AsyncOpenAI], ids=["sync", "async"])
async def sdk(request: pytest.FixtureRequest, gateway: Served) -> AsyncIterator[Sdk]:
    client = request.param(base_url=gateway.url, api_key=gateway.token, max_retries=0)
    yield Sdk(client)
    if isinstance(client, openai.AsyncOpenAI):
        await client.close()
    else:
        client.close()


async def stored_file(sdk: Sdk, text: bytes = TEXT) -> Any:
    return await sdk(lambda client: client.files.create(file=("lighthouse.txt", text), purpose="assistants"))


async def store_with_file(sdk: Sdk, **options: Any) -> tuple[str, str]:
    store = await sdk(lambda client: client.vector_stores.create(name="places"))
    file = await stored_file(sdk)
    await sdk(
        lambda client: client.vector_stores.files.create_and_poll(
            file.id, vector_store_id=store.id, poll_interval_ms=20, **options
        )
    )
    return store.id, file.id


# ---------------------------------------------------------------- responses


async def test_response_is_created(sdk: Sdk) -> None:
    response = await sdk(lambda client: client.responses.create(model="small", input="Hello there"))

    assert (response.output_text, response.status, response.error) == (
        "You said: Hello there",
        "completed",
        None,
    )


async def test_instructions_are_read_before_the_input(sdk: Sdk, gateway: Served) -> None:
    await sdk(
        lambda client: client.responses.create(
            model="small", instructions="Be brief.", input=[{"role": "user", "content": "Hello"}]
        )
    )

    assert [(message["role"], message["content"]) for message in gateway.asked()[-1]["messages"]] == [
        ("system", "Be brief."),
        ("user", "Hello"),
    ]


async def test_response_is_streamed_in_pieces_and_in_order(sdk: Sdk) -> None:
    events = await sdk.all(
        lambda client: client.responses.create(model="small", input="Count from 1 to 20", stream=True)
    )

    pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(pieces) == ", ".join(str(number) for number in range(1, 21))
    assert len(pieces) > 1
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")


async def test_stream_helper_accumulates_the_response(sdk: Sdk) -> None:
    events, final = await sdk.streamed(
        lambda client: client.responses.stream(model="small", input="Count from 1 to 3")
    )

    assert final.output_text == "1, 2, 3"
    assert final.usage.total_tokens == events[-1].response.usage.total_tokens > 0


async def test_parse_helper_returns_the_model_of_a_schema(sdk: Sdk) -> None:
    response = await sdk(
        lambda client: client.responses.parse(model="small", input="I live in Paris", text_format=Place)
    )

    assert response.output_parsed == Place(city="Paris")


async def test_stream_helper_parses_a_schema(sdk: Sdk) -> None:
    _, final = await sdk.streamed(
        lambda client: client.responses.stream(model="small", input="I live in Paris", text_format=Place)
    )

    assert final.output_parsed == Place(city="Paris")


async def test_parse_helper_parses_the_arguments_of_a_tool(sdk: Sdk) -> None:
    tool = openai.pydantic_function_tool(Place, name="look_up")["function"]
    response = await sdk(
        lambda client: client.responses.parse(
            model="small",
            input="look_up(Paris)",
            tools=[{"type": "function", "strict": True, "name": "look_up", "parameters": tool["parameters"]}],
        )
    )

    assert response.output[0].parsed_arguments == {"city": "Paris"}


async def test_function_call_is_answered_in_a_second_turn(sdk: Sdk) -> None:
    tool = {
        "type": "function",
        "name": "get_weather",
        "strict": False,
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
    first = await sdk(
        lambda client: client.responses.create(
            model="small", input="What is the weather in Paris?", tools=[tool]
        )
    )
    call = first.output[0]
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    second = await sdk(
        lambda client: client.responses.create(
            model="small", previous_response_id=first.id, input=[output], tools=[tool]
        )
    )

    assert (call.name, call.arguments, second.output_text) == (
        "get_weather",
        '{"city": "Paris"}',
        "The tool said: sunny",
    )


async def test_pieces_of_a_streamed_function_call_add_up_to_its_arguments(sdk: Sdk) -> None:
    tool = {
        "type": "function",
        "name": "adder",
        "strict": False,
        "parameters": {"properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
    }
    events, final = await sdk.streamed(
        lambda client: client.responses.stream(model="small", input="adder(1, 2)", tools=[tool])
    )

    pieces = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    assert "".join(pieces) == final.output[0].arguments == '{"a": 1, "b": 2}'


async def test_previous_response_is_remembered(sdk: Sdk) -> None:
    first = await sdk(lambda client: client.responses.create(model="small", input="My name is Alice."))
    second = await sdk(
        lambda client: client.responses.create(
            model="small", input="What is my name?", previous_response_id=first.id
        )
    )

    assert (second.output_text, second.previous_response_id) == ("Your name is Alice.", first.id)


async def test_output_items_can_be_sent_back_as_input(sdk: Sdk) -> None:
    first = await sdk(
        lambda client: client.responses.create(model="small", input="My name is Alice.", store=False)
    )
    history = [
        {"role": "user", "content": "My name is Alice."},
        *(item.model_dump(exclude_none=True) for item in first.output),
        {"role": "user", "content": "What is my name?"},
    ]
    second = await sdk(lambda client: client.responses.create(model="small", input=history, store=False))

    assert second.output_text == "Your name is Alice."


async def test_stored_response_is_retrieved_and_deleted(sdk: Sdk) -> None:
    created = await sdk(
        lambda client: client.responses.create(
            model="small", input="Keep this", metadata={"topic": "keeping"}
        )
    )
    stored = await sdk(lambda client: client.responses.retrieve(created.id))
    await sdk(lambda client: client.responses.delete(created.id))

    assert stored.to_dict() == created.to_dict()
    with pytest.raises(openai.NotFoundError):
        await sdk(lambda client: client.responses.retrieve(created.id))


async def test_response_that_is_not_stored_cannot_be_retrieved(sdk: Sdk) -> None:
    created = await sdk(
        lambda client: client.responses.create(model="small", input="Forget this", store=False)
    )

    with pytest.raises(openai.NotFoundError):
        await sdk(lambda client: client.responses.retrieve(created.id))


async def test_input_items_are_paged_through(sdk: Sdk) -> None:
    items = [{"role": "user", "content": f"Number {number}"} for number in range(3)]
    created = await sdk(lambda client: client.responses.create(model="small", input=items))
    listed = await sdk.all(lambda client: client.responses.input_items.list(created.id, limit=1, order="asc"))

    assert [item.content[0].text for item in listed] == ["Number 0", "Number 1", "Number 2"]


async def test_file_search_answers_with_citations_and_results(sdk: Sdk, gateway: Served) -> None:
    store, file = await store_with_file(sdk)
    response = await sdk(
        lambda client: client.responses.create(
            model="small",
            input="Use file_search for the lighthouse.",
            tools=[{"type": "file_search", "vector_store_ids": [store]}],
            tool_choice="auto",
            include=["file_search_call.results"],
        )
    )

    search, message = response.output
    assert [result.file_id for result in search.results] == [file]
    assert {annotation.file_id for annotation in message.content[0].annotations} == {file}
    assert "The lighthouse of Alderney is open on Sundays." in message.content[0].text


async def test_image_reaches_the_model(sdk: Sdk) -> None:
    uploaded = await sdk(
        lambda client: client.files.create(file=("point.png", png_bytes()), purpose="vision")
    )
    inline = {
        "type": "input_image",
        "image_url": "data:image/png;base64," + base64.b64encode(png_bytes()).decode(),
        "detail": "auto",
    }
    for image in (inline, {"type": "input_image", "file_id": uploaded.id, "detail": "low"}):
        content = [{"type": "input_text", "text": "What is it?"}, image]
        response = await sdk(
            lambda client, content=content: client.responses.create(
                model="small", input=[{"role": "user", "content": content}]
            )
        )

        assert response.output_text == "The picture shows a red heart on a white background."


async def test_document_reaches_the_model(sdk: Sdk) -> None:
    uploaded = await stored_file(sdk)
    data = "data:application/pdf;base64," + base64.b64encode(pdf_bytes("The lamp is lit at dusk.")).decode()
    for document, said in (
        ({"type": "input_file", "file_id": uploaded.id}, "open on Sundays"),
        ({"type": "input_file", "file_data": data, "filename": "lamp.pdf"}, "lit at dusk"),
    ):
        content = [document, {"type": "input_text", "text": "What is said?"}]
        response = await sdk(
            lambda client, content=content: client.responses.create(
                model="small", input=[{"role": "user", "content": content}]
            )
        )

        assert said in response.output_text


async def test_item_is_referred_to_by_its_id(sdk: Sdk) -> None:
    first = await sdk(lambda client: client.responses.create(model="small", input="My name is Alice."))
    reference = {"type": "item_reference", "id": first.output[0].id}
    items = [
        {"role": "user", "content": "My name is Alice."},
        reference,
        {"role": "user", "content": "What is my name?"},
    ]
    second = await sdk(lambda client: client.responses.create(model="small", input=items))

    assert second.output_text == "Your name is Alice."


async def test_custom_tool_takes_free_text(sdk: Sdk) -> None:
    tool = {"type": "custom", "name": "run_code", "description": "Run code."}
    first = await sdk(
        lambda client: client.responses.create(model="small", input="run_code('print(1)')", tools=[tool])
    )
    call = first.output[0]
    output = {"type": "custom_tool_call_output", "call_id": call.call_id, "output": "1"}
    second = await sdk(
        lambda client: client.responses.create(
            model="small", previous_response_id=first.id, input=[output], tools=[tool]
        )
    )

    assert (call.type, call.name, call.input, second.output_text) == (
        "custom_tool_call",
        "run_code",
        "print(1)",
        "The tool said: 1",
    )


async def test_tool_in_a_namespace_keeps_its_names(sdk: Sdk) -> None:
    member = {
        "type": "function",
        "name": "lookup",
        "strict": False,
        "parameters": {"properties": {"city": {"type": "string"}}},
    }
    tool = {"type": "namespace", "name": "weather", "description": "About weather.", "tools": [member]}
    response = await sdk(
        lambda client: client.responses.create(model="small", input="Please lookup 'Paris'", tools=[tool])
    )

    assert [(call.namespace, call.name, call.arguments) for call in response.output] == [
        ("weather", "lookup", '{"city": "Paris"}')
    ]


async def test_tools_that_are_not_allowed_are_not_called(sdk: Sdk) -> None:
    tools = [
        {
            "type": "function",
            "name": name,
            "strict": False,
            "parameters": {"properties": {"city": {"type": "string"}}},
        }
        for name in ("first_choice", "second_choice")
    ]
    allowed = {
        "type": "allowed_tools",
        "mode": "required",
        "tools": [{"type": "function", "name": "second_choice"}],
    }
    response = await sdk(
        lambda client: client.responses.create(
            model="small", input="first_choice", tools=tools, tool_choice=allowed
        )
    )

    assert [call.name for call in response.output] == ["second_choice"]


async def test_tool_of_a_server_is_listed_and_called(sdk: Sdk) -> None:
    response = await sdk(lambda client: client.responses.create(tools=[TICKETS], **SEARCHING))
    listing, call, message = response.output

    assert {tool.name for tool in listing.tools} == {"search", "close", "fail"}
    assert (call.type, call.name, call.output, call.error) == (
        *("mcp_call", "search"),
        *("Ticket 7 is open.", None),
    )
    assert message.content[0].text == "The tool said: Ticket 7 is open."


@pytest.mark.parametrize("asks", ["never", "always"])
@pytest.mark.parametrize("background", [False, True])
async def test_stream_of_tools_of_a_server_is_made_of_the_types_of_the_sdk(
    sdk: Sdk, asks: str, background: bool
) -> None:
    events = await sdk.all(
        lambda client: client.responses.create(
            stream=True, background=background, tools=[{**TICKETS, "require_approval": asks}], **SEARCHING
        )
    )
    kinds = [item.type for item in events[-1].response.output]

    assert [event for event in events if validated(event) != event] == []
    assert kinds == ["mcp_list_tools", *ENDS[asks]]


async def test_stream_helper_accumulates_calls_of_a_server(sdk: Sdk) -> None:
    events, response = await sdk.streamed(
        lambda client: client.responses.stream(tools=[TICKETS], **SEARCHING)
    )

    assert [item.type for item in response.output] == ["mcp_list_tools", *ENDS["never"]]
    assert response.output == events[-1].response.output


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("approves", [True, False])
async def test_call_of_a_server_is_approved_in_the_next_turn(
    sdk: Sdk, approves: bool, background: bool
) -> None:
    tools: Any = [{**TICKETS, "require_approval": "always"}]
    first = await sdk(lambda client: client.responses.create(tools=tools, background=background, **SEARCHING))
    while first.status in ("queued", "in_progress"):
        first = await sdk(lambda client, name=first.id: client.responses.retrieve(name))
    asked = first.output[-1]
    answer: Any = {"type": "mcp_approval_response", "approval_request_id": asked.id, "approve": approves}
    second = await sdk(
        lambda client: client.responses.create(
            model="small", input=[answer], tools=tools, previous_response_id=first.id
        )
    )
    calls = [(item.name, item.approval_request_id) for item in second.output if item.type == "mcp_call"]

    assert (asked.type, asked.server_label, asked.name) == ("mcp_approval_request", "tickets", "search")
    assert calls == ([("search", asked.id)] if approves else [])
    assert ("Ticket 7 is open." in second.output_text) is approves


async def test_items_of_a_server_can_be_sent_back_as_input(sdk: Sdk) -> None:
    tools: Any = [{**TICKETS, "require_approval": "always"}]
    first = await sdk(lambda client: client.responses.create(tools=tools, store=False, **SEARCHING))
    asked = first.output[-1].id
    answer = {"type": "mcp_approval_response", "approval_request_id": asked, "approve": True}
    sent: list[Any] = [{"role": "user", "content": SEARCHING["input"]}, *first.output, answer]
    second = await sdk(
        lambda client: client.responses.create(model="small", input=sent, tools=tools, store=False)
    )
    sent += [*second.output, {"role": "user", "content": "Hello there"}]
    third = await sdk(
        lambda client: client.responses.create(model="small", input=sent, tools=tools, store=False)
    )

    assert second.output_text == "The tool said: Ticket 7 is open."
    assert third.output_text == "You said: Hello there"


async def test_everything_that_shapes_an_answer_is_accepted(sdk: Sdk) -> None:
    response = await sdk(
        lambda client: client.responses.create(
            model="small",
            input="Hello",
            reasoning={"effort": "low", "summary": "auto"},
            text={"verbosity": "low"},
            truncation="auto",
            include=["reasoning.encrypted_content"],
            store=False,
            temperature=0.5,
            top_p=0.5,
            max_output_tokens=100,
            max_tool_calls=3,
            parallel_tool_calls=False,
            prompt_cache_key="a",
            safety_identifier="b",
            metadata={"c": "d"},
        )
    )

    assert (response.status, response.reasoning.effort, response.text.verbosity) == (
        "completed",
        "low",
        "low",
    )


async def test_background_response_is_polled_for(sdk: Sdk) -> None:
    response = await sdk(
        lambda client: client.responses.create(model="small", input="Count from 1 to 3", background=True)
    )
    first = response.status
    async with asyncio.timeout(120):
        while response.status in ("queued", "in_progress"):
            response = await sdk(lambda client, name=response.id: client.responses.retrieve(name))

    assert (first, response.status, response.output_text) == ("queued", "completed", "1, 2, 3")


async def test_background_stream_is_taken_up_again_after_any_event(sdk: Sdk) -> None:
    events = await sdk.all(
        lambda client: client.responses.create(
            model="small",
            input="Count from 1 to 3",
            background=True,
            stream=True,
            stream_options={"include_obfuscation": False},
        )
    )
    response = events[0].response.id
    rest = await sdk.all(
        lambda client: client.responses.retrieve(
            response, stream=True, starting_after=4, include_obfuscation=False
        )
    )

    assert [event.to_dict() for event in rest] == [event.to_dict() for event in events[5:]]
    assert rest[-1].type == "response.completed"


async def test_background_response_is_cancelled(sdk: Sdk) -> None:
    response = await sdk(
        lambda client: client.responses.create(model="small", input="Wait for 30 seconds", background=True)
    )
    cancelled = await sdk(lambda client: client.responses.cancel(response.id))
    again = await sdk(lambda client: client.responses.cancel(response.id))

    assert (cancelled.status, again.status) == ("cancelled", "cancelled")


async def test_input_tokens_are_counted(sdk: Sdk) -> None:
    few = await sdk(lambda client: client.responses.input_tokens.count(model="small", input="Hello"))
    many = await sdk(lambda client: client.responses.input_tokens.count(model="small", input="Hello " * 100))

    assert 0 < few.input_tokens < many.input_tokens


async def test_conversation_is_compacted_and_continued(sdk: Sdk) -> None:
    history = [
        {"role": "user", "content": "My name is Alice."},
        {"role": "assistant", "content": "Hello Alice."},
    ]
    compacted = await sdk(lambda client: client.responses.compact(model="small", input=history))
    items = [
        *(item.model_dump(exclude_none=True) for item in compacted.output),
        {"role": "user", "content": "What is my name?"},
    ]
    response = await sdk(lambda client: client.responses.create(model="small", input=items, store=False))

    assert compacted.output[-1].type == "compaction"
    assert response.output_text == "Your name is Alice."


async def test_turns_follow_each_other_on_a_websocket(sdk: Sdk) -> None:
    first, second = await sdk.over_websocket(
        {"input": "My name is Alice.", "store": False}, {"input": "What is my name?", "store": False}
    )

    assert first.type == second.type == "response.completed"
    assert second.response.output_text == "Your name is Alice."


async def test_refusal_leaves_the_websocket_open(sdk: Sdk) -> None:
    refused, answered = await sdk.over_websocket(
        {"input": "Hi", "previous_response_id": "resp_absent"},
        {"input": "Hello there", "previous_response_id": None},
    )

    assert (refused.type, refused.to_dict()["error"]["code"]) == ("error", "previous_response_not_found")
    assert answered.response.output_text == "You said: Hello there"


async def test_response_of_another_user_does_not_exist(sdk: Sdk, gateway: Served) -> None:
    created = await sdk(lambda client: client.responses.create(model="small", input="Mine"))

    with (
        openai.OpenAI(base_url=gateway.url, api_key=gateway.tokens["eve"], max_retries=0) as eve,
        pytest.raises(openai.NotFoundError),
    ):
        await asyncio.to_thread(eve.responses.retrieve, created.id)


async def test_refusals_are_the_exceptions_of_the_sdk(sdk: Sdk) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await sdk(lambda client: client.responses.create(model="small", input="Hi", temperature=9))
    with pytest.raises(openai.NotFoundError) as unknown:
        await sdk(lambda client: client.responses.create(model="no-such-model", input="Hi"))
    with pytest.raises(openai.AuthenticationError):
        await sdk(
            lambda client: client.with_options(api_key="wrong").responses.create(model="small", input="Hi")
        )

    assert (refused.value.param, unknown.value.code) == ("temperature", "model_not_found")


# ---------------------------------------------------------------- conversations


async def test_conversation_keeps_what_is_said_in_it(sdk: Sdk) -> None:
    conversation = await sdk(lambda client: client.conversations.create(metadata={"topic": "names"}))
    await sdk(
        lambda client: client.responses.create(
            model="small", input="My name is Alice.", conversation=conversation.id
        )
    )
    second = await sdk(
        lambda client: client.responses.create(
            model="small", input="What is my name?", conversation={"id": conversation.id}
        )
    )
    items = await sdk.all(
        lambda client: client.conversations.items.list(conversation.id, order="asc", limit=2)
    )

    assert (second.output_text, second.conversation.id) == ("Your name is Alice.", conversation.id)
    assert [item.content[0].text for item in items][::3] == ["My name is Alice.", "Your name is Alice."]
    assert [item.role for item in items] == ["user", "assistant", "user", "assistant"]


async def test_conversation_is_read_changed_and_deleted(sdk: Sdk) -> None:
    made = await sdk(
        lambda client: client.conversations.create(items=[{"role": "user", "content": "My name is Alice."}])
    )
    changed = await sdk(lambda client: client.conversations.update(made.id, metadata={"topic": "names"}))
    read = await sdk(lambda client: client.conversations.retrieve(made.id))
    deleted = await sdk(lambda client: client.conversations.delete(made.id))

    assert changed.metadata == read.metadata == {"topic": "names"}
    assert (deleted.id, deleted.deleted) == (made.id, True)
    with pytest.raises(openai.NotFoundError):
        await sdk(lambda client: client.conversations.retrieve(made.id))


async def test_items_of_a_conversation_are_added_read_and_deleted(sdk: Sdk) -> None:
    conversation = await sdk(lambda client: client.conversations.create())
    added = await sdk(
        lambda client: client.conversations.items.create(
            conversation.id,
            items=[{"role": "user", "content": text} for text in ("My name is Alice.", "Hello.")],
        )
    )
    first, second = added.data
    read = await sdk(
        lambda client: client.conversations.items.retrieve(first.id, conversation_id=conversation.id)
    )
    await sdk(lambda client: client.conversations.items.delete(second.id, conversation_id=conversation.id))
    left = await sdk.all(lambda client: client.conversations.items.list(conversation.id))

    assert read.content[0].text == "My name is Alice."
    assert [item.id for item in left] == [first.id]


# ---------------------------------------------------------------- files and vector stores


async def test_file_is_stored_read_and_deleted(sdk: Sdk) -> None:
    file = await stored_file(sdk)
    ready = await sdk(lambda client: client.files.wait_for_processing(file.id))
    content = await sdk(lambda client: client.files.content(file.id))
    listed = await sdk.all(lambda client: client.files.list(purpose="assistants", limit=2))
    deleted = await sdk(lambda client: client.files.delete(file.id))

    assert (ready.filename, ready.bytes, content.content) == ("lighthouse.txt", len(TEXT), TEXT)
    assert file.id in [each.id for each in listed]
    assert (deleted.id, deleted.deleted) == (file.id, True)


async def test_file_is_uploaded_with_the_time_it_expires(sdk: Sdk) -> None:
    expiry = {"anchor": "created_at", "seconds": 3600}
    file = await sdk(
        lambda client: client.files.create(
            file=("short.txt", TEXT), purpose="user_data", expires_after=expiry
        )
    )

    assert file.expires_at == file.created_at + 3600


async def test_vector_store_is_made_listed_and_deleted(sdk: Sdk) -> None:
    store = await sdk(lambda client: client.vector_stores.create(name="empty", metadata={"kind": "test"}))
    stored = await sdk(lambda client: client.vector_stores.retrieve(store.id))
    listed = await sdk.all(lambda client: client.vector_stores.list(limit=2))
    deleted = await sdk(lambda client: client.vector_stores.delete(store.id))

    assert (stored.name, stored.metadata, stored.file_counts.total) == ("empty", {"kind": "test"}, 0)
    assert store.id in [each.id for each in listed]
    assert (deleted.id, deleted.deleted) == (store.id, True)


async def test_file_is_attached_by_the_polling_helper_and_found(sdk: Sdk) -> None:
    store, file = await store_with_file(sdk, attributes={"region": "islands"})
    listed = await sdk.all(lambda client: client.vector_stores.files.list(store, filter="completed"))
    found = await sdk.all(lambda client: client.vector_stores.search(store, query="Where is the lighthouse?"))
    filtered = await sdk.all(
        lambda client: client.vector_stores.search(
            store, query="lighthouse", filters={"type": "ne", "key": "region", "value": "islands"}
        )
    )

    assert [(each.id, each.status, each.attributes) for each in listed] == [
        (file, "completed", {"region": "islands"})
    ]
    assert [(hit.file_id, hit.filename) for hit in found] == [(file, "lighthouse.txt")]
    assert filtered == []


async def test_file_is_uploaded_and_attached_in_one_call(sdk: Sdk) -> None:
    store = await sdk(lambda client: client.vector_stores.create(name="places"))
    attached = await sdk(
        lambda client: client.vector_stores.files.upload_and_poll(
            vector_store_id=store.id, file=("lighthouse.txt", TEXT), poll_interval_ms=20
        )
    )
    parts = await sdk.all(
        lambda client: client.vector_stores.files.content(attached.id, vector_store_id=store.id)
    )

    assert attached.status == "completed"
    assert "".join(part.text for part in parts).strip() == TEXT.decode().strip()


async def test_vector_store_is_changed(sdk: Sdk) -> None:
    store = await sdk(
        lambda client: client.vector_stores.create(
            name="old", expires_after={"anchor": "last_active_at", "days": 3}
        )
    )
    changed = await sdk(
        lambda client: client.vector_stores.update(store.id, name="new", metadata={"kind": "test"})
    )
    read = await sdk(lambda client: client.vector_stores.retrieve(store.id))

    assert (changed.name, read.name, read.metadata, read.expires_after.days) == (
        "new",
        "new",
        {"kind": "test"},
        3,
    )


async def test_attributes_of_an_attached_file_are_changed(sdk: Sdk) -> None:
    store, file = await store_with_file(sdk, attributes={"region": "islands"})
    changed = await sdk(
        lambda client: client.vector_stores.files.update(
            file, vector_store_id=store, attributes={"region": "coast"}
        )
    )
    filters = {"type": "eq", "key": "region", "value": "coast"}
    found = await sdk.all(
        lambda client: client.vector_stores.search(store, query="lighthouse", filters=filters)
    )

    assert changed.attributes == {"region": "coast"}
    assert [hit.file_id for hit in found] == [file]


async def test_batch_of_files_is_attached_by_the_polling_helpers(sdk: Sdk) -> None:
    store = await sdk(lambda client: client.vector_stores.create(name="places"))
    file = await stored_file(sdk)
    made = await sdk(
        lambda client: client.vector_stores.file_batches.create_and_poll(
            store.id, file_ids=[file.id], poll_interval_ms=20
        )
    )
    uploaded = await sdk(
        lambda client: client.vector_stores.file_batches.upload_and_poll(
            store.id, files=[("one.txt", b"One."), ("two.txt", b"Two.")], poll_interval_ms=20
        )
    )
    listed = await sdk.all(
        lambda client: client.vector_stores.file_batches.list_files(uploaded.id, vector_store_id=store.id)
    )
    read = await sdk(
        lambda client: client.vector_stores.file_batches.retrieve(made.id, vector_store_id=store.id)
    )

    assert (made.status, made.file_counts.completed, read.id) == ("completed", 1, made.id)
    assert (uploaded.status, uploaded.file_counts.completed, len(listed)) == ("completed", 2, 2)


async def test_detached_file_is_found_no_more(sdk: Sdk) -> None:
    store, file = await store_with_file(sdk)
    deleted = await sdk(lambda client: client.vector_stores.files.delete(file, vector_store_id=store))

    assert deleted.deleted
    assert await sdk.all(lambda client: client.vector_stores.search(store, query="lighthouse")) == []


# ---------------------------------------------------------------- models, chat completions, embeddings


async def test_models_are_listed_and_retrieved(sdk: Sdk) -> None:
    listed = await sdk.all(lambda client: client.models.list())
    small = await sdk(lambda client: client.models.retrieve("small"))

    assert [model.id for model in listed] == list(MODELS)
    assert (small.id, small.object) == ("small", "model")


async def test_chat_completion_passes_through(sdk: Sdk) -> None:
    messages = [{"role": "user", "content": "Count from 1 to 3"}]
    whole = await sdk(lambda client: client.chat.completions.create(model="small", messages=messages))
    parsed = await sdk(
        lambda client: client.chat.completions.parse(
            model="small", messages=[{"role": "user", "content": "I live in Paris"}], response_format=Place
        )
    )
    _, streamed = await sdk.streamed(
        lambda client: client.chat.completions.stream(model="small", messages=messages)
    )

    assert whole.choices[0].message.content == streamed.choices[0].message.content == "1, 2, 3"
    assert parsed.choices[0].message.parsed == Place(city="Paris")


async def test_old_completion_passes_through(sdk: Sdk) -> None:
    completion = await sdk(lambda client: client.completions.create(model="small", prompt="Hello"))

    assert completion.choices[0].text == "You said: Hello"


@pytest.mark.parametrize("encoding", ["float", "base64", None])
async def test_embeddings_come_as_numbers_in_every_format(sdk: Sdk, encoding: str | None) -> None:
    options = {} if encoding is None else {"encoding_format": encoding}
    answer = await sdk(
        lambda client: client.embeddings.create(model="small", input=["one", "two"], **options)
    )

    if encoding == "base64":
        assert all(isinstance(each.embedding, str) for each in answer.data)
    else:
        assert [each.embedding for each in answer.data] == [
            pytest.approx(embedding_of(text)) for text in ("one", "two")
        ]
