"""`langchain-openai` and LangGraph, unmodified, through the Responses API and through chat
completions. The standard tests are in `heavy/`.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from typing import Any

import openai
import pytest
from langchain_core.messages import AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings, custom_tool
from pydantic import BaseModel
from tests.clients.model import embedding_of
from tests.clients.serving import Served
from tests.media import pdf_bytes, png_bytes

NAMED = HumanMessage("My name is Alice.")
SEARCH = "mcp__tickets__search('lamp')"
WHO = HumanMessage("What is my name?")


class Place(BaseModel):
    """What a question is about."""

    city: str


@tool
def get_weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"{city} is sunny"


@pytest.fixture
async def options(gateway: Served) -> AsyncIterator[dict[str, Any]]:
    """How a chat model reaches the gateway; its connections belong to the test, since LangChain's own
    outlive the event loop.
    """
    async with openai.DefaultAsyncHttpxClient() as asynchronous:
        with openai.DefaultHttpxClient() as synchronous:
            yield {
                "model": "small",
                "base_url": gateway.url,
                "api_key": gateway.token,
                "max_retries": 0,
                "http_client": synchronous,
                "http_async_client": asynchronous,
            }


@pytest.fixture
def responses(options: dict[str, Any]) -> Callable[..., ChatOpenAI]:
    """Makes chat models that use the Responses API."""
    return lambda **more: ChatOpenAI(**options, use_responses_api=True, **more)


@pytest.fixture(params=[True, False], ids=["responses", "chat"])
def either(request: pytest.FixtureRequest, options: dict[str, Any]) -> ChatOpenAI:
    return ChatOpenAI(**options, use_responses_api=request.param, stream_usage=True)


def test_model_is_invoked(either: ChatOpenAI) -> None:
    answer = either.invoke([("system", "Be brief."), ("user", "Hello there")])

    assert answer.text == "You said: Hello there"
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["total_tokens"] > 0


async def test_model_is_invoked_in_an_event_loop(either: ChatOpenAI) -> None:
    assert (await either.ainvoke("Hello there")).text == "You said: Hello there"


def test_answer_is_streamed_in_pieces(either: ChatOpenAI) -> None:
    pieces = [piece.text for piece in either.stream("Count from 1 to 20")]

    assert "".join(pieces) == ", ".join(str(number) for number in range(1, 21))
    assert len([piece for piece in pieces if piece]) > 1


def test_tool_is_called_and_answered(either: ChatOpenAI) -> None:
    model = either.bind_tools([get_weather])
    question = HumanMessage("What is the weather in Paris?")
    called = model.invoke([question])
    (call,) = called.tool_calls
    answer = model.invoke(
        [question, called, ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"])]
    )

    assert (call["name"], call["args"]) == ("get_weather", {"city": "Paris"})
    assert answer.text == "The tool said: Paris is sunny"


def test_streamed_tool_call_adds_up(either: ChatOpenAI) -> None:
    whole = AIMessageChunk("")
    for piece in either.bind_tools([get_weather]).stream("What is the weather in Paris?"):
        whole += piece

    assert [(call["name"], call["args"]) for call in whole.tool_calls] == [("get_weather", {"city": "Paris"})]


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(either: ChatOpenAI, method: Any) -> None:
    assert either.with_structured_output(Place, method=method).invoke("I live in Paris") == Place(
        city="Paris"
    )


def test_history_is_sent_back(either: ChatOpenAI) -> None:
    assert either.invoke([NAMED, either.invoke([NAMED]), WHO]).text == "Your name is Alice."


def test_history_is_kept_by_the_gateway(responses: Callable[..., ChatOpenAI], gateway: Served) -> None:
    model = responses(use_previous_response_id=True)
    first = model.invoke([NAMED])
    second = model.invoke([NAMED, first, WHO])

    assert second.text == "Your name is Alice."
    assert [message["content"] for message in gateway.asked()[-1]["messages"]] == [
        NAMED.text,
        first.text,
        WHO.text,
    ]


def test_content_blocks_of_version_1_are_sent_back(responses: Callable[..., ChatOpenAI]) -> None:
    model = responses(output_version="v1", store=False)
    first = model.invoke([NAMED])

    assert model.invoke([NAMED, first, WHO]).text == "Your name is Alice."


def test_file_search_is_bound_as_a_hosted_tool(responses: Callable[..., ChatOpenAI], gateway: Served) -> None:
    model = responses(include=["file_search_call.results"])
    store = model.root_client.vector_stores.create(name="places")
    model.root_client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id,
        file=("lighthouse.txt", b"The lighthouse of Alderney is open on Sundays."),
        poll_interval_ms=20,
    )
    answer = model.bind_tools([{"type": "file_search", "vector_store_ids": [store.id]}]).invoke(
        "Use file_search for the lighthouse."
    )

    assert "open on Sundays" in answer.text
    assert {
        citation["filename"] for block in answer.content for citation in block.get("annotations", ())
    } == {"lighthouse.txt"}


def tickets(asks: str = "never") -> dict[str, Any]:
    return {"type": "mcp", "server_label": "tickets", "require_approval": asks}


def kinds(message: BaseMessage) -> list[Any]:
    return [block["type"] for block in message.content if isinstance(block, dict)]


def test_server_of_tools_is_bound_as_a_hosted_tool(responses: Callable[..., ChatOpenAI]) -> None:
    answer = responses().bind_tools([tickets()]).invoke(SEARCH)

    assert kinds(answer) == ["mcp_list_tools", "mcp_call", "text"]
    assert answer.text == "The tool said: Ticket 7 is open."


def test_streamed_call_of_a_server_adds_up(responses: Callable[..., ChatOpenAI]) -> None:
    whole = AIMessageChunk("")
    for piece in responses().bind_tools([tickets()]).stream(SEARCH):
        whole += piece

    assert kinds(whole) == ["mcp_list_tools", "mcp_call", "text"]
    assert whole.text == "The tool said: Ticket 7 is open."


@pytest.mark.parametrize("approves", [True, False])
def test_call_of_a_server_is_approved_in_the_next_turn(
    responses: Callable[..., ChatOpenAI], approves: bool
) -> None:
    model = responses().bind_tools([tickets("always")])
    asked = model.invoke(SEARCH)
    request = next(block for block in asked.content if block["type"] == "mcp_approval_request")
    answer = {"type": "mcp_approval_response", "approval_request_id": request["id"], "approve": approves}
    done = model.invoke([HumanMessage([answer])], previous_response_id=asked.response_metadata["id"])

    assert (request["server_label"], request["name"]) == ("tickets", "search")
    assert (done.text == "The tool said: Ticket 7 is open.") is approves


def test_call_of_a_server_is_approved_with_the_history(responses: Callable[..., ChatOpenAI]) -> None:
    model = responses(store=False).bind_tools([tickets("always")])
    question = HumanMessage(SEARCH)
    asked = model.invoke([question])
    request = next(block for block in asked.content if block["type"] == "mcp_approval_request")
    answer = {"type": "mcp_approval_response", "approval_request_id": request["id"], "approve": True}
    approval = HumanMessage([answer])
    done = model.invoke([question, asked, approval])
    last = model.invoke([question, asked, approval, done, HumanMessage("Hello there")])

    assert done.text == "The tool said: Ticket 7 is open."
    assert last.text == "You said: Hello there"


def test_picture_is_part_of_the_input(either: ChatOpenAI) -> None:
    picture = {"type": "image", "base64": base64.b64encode(png_bytes()).decode(), "mime_type": "image/png"}
    answer = either.invoke([HumanMessage([{"type": "text", "text": "What is it?"}, picture])])

    assert answer.text == "The picture shows a red heart on a white background."


def test_document_is_part_of_the_input(responses: Callable[..., ChatOpenAI]) -> None:
    data = base64.b64encode(pdf_bytes("The lamp is lit at dusk.")).decode()
    document = {"type": "file", "base64": data, "mime_type": "application/pdf", "filename": "lamp.pdf"}

    assert (
        "lit at dusk"
        in responses().invoke([HumanMessage([{"type": "text", "text": "What is said?"}, document])]).text
    )


def test_custom_tool_takes_free_text(responses: Callable[..., ChatOpenAI]) -> None:
    @custom_tool
    def run_code(code: str) -> str:
        """Run code."""
        return f"ran {code}"

    model = responses().bind_tools([run_code])
    question = HumanMessage("run_code('print(1)')")
    called = model.invoke([question])
    (call,) = called.tool_calls
    answer = model.invoke([question, called, run_code.invoke(call)])

    assert answer.text == "The tool said: ran print(1)"


def test_settings_of_a_model_are_accepted(responses: Callable[..., ChatOpenAI]) -> None:
    model = responses(
        reasoning={"effort": "low", "summary": "auto"},
        verbosity="low",
        include=["reasoning.encrypted_content"],
        store=False,
    )

    assert model.invoke("Hello there").text == "You said: Hello there"


def test_embeddings(options: dict[str, Any]) -> None:
    embeddings = OpenAIEmbeddings(**options, check_embedding_ctx_length=False)

    assert embeddings.embed_documents(["one", "two"]) == [
        pytest.approx(embedding_of(text)) for text in ("one", "two")
    ]
