"""Pydantic AI, unmodified, through the Responses API and through chat completions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import openai
import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent, NativeOutput, ToolOutput
from pydantic_ai.capabilities import NativeTool
from pydantic_ai.models import Model
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel, OpenAIResponsesModelSettings
from pydantic_ai.native_tools import MCPServerTool
from pydantic_ai.providers.openai import OpenAIProvider
from tests.clients.serving import Served
from tests.media import pdf_bytes, png_bytes

SEARCH = "mcp__tickets__search('lamp')"


class Place(BaseModel):
    """What a question is about."""

    city: str


def get_weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"{city} is sunny"


@pytest.fixture
async def provider(gateway: Served) -> AsyncIterator[OpenAIProvider]:
    async with openai.AsyncOpenAI(base_url=gateway.url, api_key=gateway.token, max_retries=0) as client:
        yield OpenAIProvider(openai_client=client)


@pytest.fixture
def responses(provider: OpenAIProvider) -> Model:
    return OpenAIResponsesModel("small", provider=provider)


@pytest.fixture(params=[OpenAIResponsesModel, OpenAIChatModel], ids=["responses", "chat"])
def either(request: pytest.FixtureRequest, provider: OpenAIProvider) -> Model:
    model: Callable[..., Model] = request.param
    return model("small", provider=provider)


async def test_agent_answers_under_its_instructions(either: Model, gateway: Served) -> None:
    result = await Agent(either, instructions="Be brief.").run("Hello there")

    assert (result.output, result.usage.requests) == ("You said: Hello there", 1)
    assert [message["content"] for message in gateway.asked()[-1]["messages"]] == ["Be brief.", "Hello there"]


async def test_agent_uses_its_tool(either: Model) -> None:
    result = await Agent(either, tools=[get_weather]).run("What is the weather in Paris?")

    assert result.output == "The tool said: Paris is sunny"


async def test_answer_is_streamed_in_pieces(either: Model) -> None:
    async with Agent(either).run_stream("Count from 1 to 20") as stream:
        pieces = [piece async for piece in stream.stream_text(delta=True, debounce_by=None)]

    assert "".join(pieces) == ", ".join(str(number) for number in range(1, 21))
    assert len(pieces) > 1


async def test_streamed_run_with_a_tool(either: Model) -> None:
    async with Agent(either, tools=[get_weather]).run_stream("What is the weather in Paris?") as stream:
        assert await stream.get_output() == "The tool said: Paris is sunny"


@pytest.mark.parametrize("output", [NativeOutput(Place), ToolOutput(Place)], ids=["native", "tool"])
async def test_agent_returns_its_output_type(either: Model, output: Any) -> None:
    assert (await Agent(either, output_type=output).run("I live in Paris")).output == Place(city="Paris")


@pytest.fixture
def searching(responses: Model) -> Agent:
    """An agent with a server that the gateway knows, which the client calls a connector."""
    return Agent(
        responses, capabilities=[NativeTool(MCPServerTool(id="tickets", url="x-openai-connector:tickets"))]
    )


async def test_server_of_tools_runs_in_the_gateway(searching: Agent) -> None:
    result = await searching.run(SEARCH)
    second = await searching.run("Hello there", message_history=result.all_messages())
    parts = [part.part_kind for message in result.all_messages() for part in message.parts]

    assert result.output == "The tool said: Ticket 7 is open."
    assert parts.count("builtin-tool-return") == 2
    assert second.output == "You said: Hello there"


async def test_streamed_run_with_a_server_of_tools(searching: Agent) -> None:
    async with searching.run_stream(SEARCH) as stream:
        assert await stream.get_output() == "The tool said: Ticket 7 is open."


async def test_messages_of_a_run_are_the_history_of_the_next(either: Model) -> None:
    agent = Agent(either, tools=[get_weather])
    first = await agent.run("My name is Alice. What is the weather in Paris?")
    second = await agent.run("What is my name?", message_history=first.all_messages())

    assert second.output == "Your name is Alice."


async def test_history_is_kept_by_the_gateway(responses: Model, gateway: Served) -> None:
    agent = Agent(responses, model_settings=OpenAIResponsesModelSettings(openai_previous_response_id="auto"))
    first = await agent.run("My name is Alice.")
    second = await agent.run("What is my name?", message_history=first.all_messages())

    assert second.output == "Your name is Alice."
    assert len(gateway.asked()[-1]["messages"]) == 3


async def test_conversation_is_kept_by_the_gateway(responses: Model, provider: OpenAIProvider) -> None:
    conversation = await provider.client.conversations.create()
    agent = Agent(
        responses, model_settings=OpenAIResponsesModelSettings(openai_conversation_id=conversation.id)
    )
    await agent.run("My name is Alice.")

    assert (await agent.run("What is my name?")).output == "Your name is Alice."


async def test_picture_is_part_of_the_input(either: Model) -> None:
    result = await Agent(either).run(["What is it?", BinaryContent(png_bytes(), media_type="image/png")])

    assert result.output == "The picture shows a red heart on a white background."


async def test_document_is_part_of_the_input(responses: Model) -> None:
    document = BinaryContent(pdf_bytes("The lamp is lit at dusk."), media_type="application/pdf")

    assert "lit at dusk" in (await Agent(responses).run(["What is said?", document])).output


async def test_settings_of_a_reasoning_model_are_accepted(provider: OpenAIProvider) -> None:
    settings = OpenAIResponsesModelSettings(
        openai_reasoning_effort="low",
        openai_reasoning_summary="auto",
        openai_text_verbosity="low",
        openai_truncation="auto",
    )
    result = await Agent(OpenAIResponsesModel("gpt-5.5-codex", provider=provider)).run(
        "Hello there", model_settings=settings
    )

    assert result.output == "You said: Hello there"
