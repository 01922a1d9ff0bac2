"""The OpenAI Agents SDK, unmodified: its loop of model turns, tools, handoffs and sessions runs
against the gateway.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import agents
import openai
import pytest
from agents.models.openai_provider import OpenAIProvider
from openai.types.shared import Reasoning
from pydantic import BaseModel
from tests.clients.serving import Served
from tests.media import png_bytes

SEARCH = "mcp__tickets__search('lamp')"
FOUND = "The tool said: Ticket 7 is open."


class Place(BaseModel):
    """What a question is about."""

    city: str


@agents.function_tool
def get_weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"{city} is sunny"


@pytest.fixture
async def client(gateway: Served) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=gateway.url, api_key=gateway.token, max_retries=0) as client:
        yield client


@pytest.fixture(params=["responses", "chat", "websocket"])
async def either(
    request: pytest.FixtureRequest, client: openai.AsyncOpenAI, gateway: Served
) -> AsyncIterator[agents.RunConfig]:
    """How the SDK reaches the gateway."""
    provider = OpenAIProvider(
        openai_client=client,
        use_responses=request.param != "chat",
        use_responses_websocket=request.param == "websocket",
    )
    before = gateway.websockets()
    yield agents.RunConfig(model_provider=provider, tracing_disabled=True)
    await provider.aclose()
    if request.param == "websocket":
        async with asyncio.timeout(120):
            while gateway.websockets() == before:
                await asyncio.sleep(0.02)


@pytest.fixture
def config(client: openai.AsyncOpenAI) -> agents.RunConfig:
    return agents.RunConfig(
        model_provider=OpenAIProvider(openai_client=client, use_responses=True), tracing_disabled=True
    )


def agent(**options: Any) -> agents.Agent[None]:
    return agents.Agent("assistant", model="small", **options)


async def test_agent_answers_under_its_instructions(either: agents.RunConfig, gateway: Served) -> None:
    result = await agents.Runner.run(agent(instructions="Be brief."), "Hello there", run_config=either)

    assert result.final_output == "You said: Hello there"
    assert gateway.asked()[-1]["messages"][0] == {"role": "system", "content": "Be brief."}


async def test_agent_uses_its_tool(either: agents.RunConfig) -> None:
    result = await agents.Runner.run(
        agent(tools=[get_weather]), "What is the weather in Paris?", run_config=either
    )

    assert result.final_output == "The tool said: Paris is sunny"


async def test_streamed_run_tells_of_the_tool_and_of_every_word(either: agents.RunConfig) -> None:
    run = agents.Runner.run_streamed(
        agent(tools=[get_weather]), "What is the weather in Paris?", run_config=either
    )
    events = [event async for event in run.stream_events()]

    items = [event.name for event in events if event.type == "run_item_stream_event"]
    words = [
        event.data.delta
        for event in events
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
    ]
    assert items == ["tool_called", "tool_output", "message_output_created"]
    assert "".join(words) == run.final_output == "The tool said: Paris is sunny"


async def test_agent_returns_its_output_type(either: agents.RunConfig) -> None:
    result = await agents.Runner.run(agent(output_type=Place), "I live in Paris", run_config=either)

    assert result.final_output == Place(city="Paris")


async def test_agent_hands_over_to_another(either: agents.RunConfig) -> None:
    speaker = agents.Agent("Spanish", model="small")
    result = await agents.Runner.run(
        agent(handoffs=[speaker]), "Please transfer_to_spanish", run_config=either
    )

    assert result.last_agent is speaker


async def test_runs_are_chained_by_previous_response(config: agents.RunConfig, gateway: Served) -> None:
    first = await agents.Runner.run(agent(), "My name is Alice.", run_config=config)
    second = await agents.Runner.run(
        agent(), "What is my name?", previous_response_id=first.last_response_id, run_config=config
    )

    assert second.final_output == "Your name is Alice."


async def test_tool_turns_are_chained_by_previous_response(config: agents.RunConfig) -> None:
    result = await agents.Runner.run(
        agent(tools=[get_weather]),
        "What is the weather in Paris?",
        auto_previous_response_id=True,
        run_config=config,
    )

    assert result.final_output == "The tool said: Paris is sunny"


async def test_items_of_a_run_are_the_input_of_the_next(either: agents.RunConfig) -> None:
    first = await agents.Runner.run(
        agent(tools=[get_weather]), "My name is Alice. What is the weather in Paris?", run_config=either
    )
    history = [*first.to_input_list(), {"role": "user", "content": "What is my name?"}]
    second = await agents.Runner.run(agent(tools=[get_weather]), history, run_config=either)

    assert second.final_output == "Your name is Alice."


async def test_session_of_the_client_keeps_the_conversation(either: agents.RunConfig) -> None:
    session = agents.SQLiteSession("one")
    await agents.Runner.run(agent(), "My name is Alice.", session=session, run_config=either)
    second = await agents.Runner.run(agent(), "What is my name?", session=session, run_config=either)

    assert second.final_output == "Your name is Alice."


async def test_session_in_the_gateway_keeps_the_conversation(
    config: agents.RunConfig, client: openai.AsyncOpenAI
) -> None:
    session = agents.OpenAIConversationsSession(openai_client=client)
    await agents.Runner.run(
        agent(tools=[get_weather]),
        "My name is Alice. What is the weather in Paris?",
        session=session,
        run_config=config,
    )
    second = await agents.Runner.run(agent(), "What is my name?", session=session, run_config=config)
    kept = await session.get_items()
    await session.clear_session()

    assert second.final_output == "Your name is Alice."
    assert [item.get("type") for item in kept] == [
        "message",
        "function_call",
        "function_call_output",
        *["message"] * 3,
    ]


async def test_hosted_file_search_runs_in_the_gateway(
    config: agents.RunConfig, client: openai.AsyncOpenAI
) -> None:
    store = await client.vector_stores.create(name="places")
    await client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id,
        file=("lighthouse.txt", b"The lighthouse of Alderney is open on Sundays."),
        poll_interval_ms=20,
    )
    search = agents.FileSearchTool(
        vector_store_ids=[store.id], max_num_results=3, include_search_results=True
    )
    result = await agents.Runner.run(
        agent(tools=[search]), "Use file_search for the lighthouse.", run_config=config
    )

    assert [item.raw_item.type for item in result.new_items] == ["file_search_call", "message"]
    assert "open on Sundays" in result.final_output


def hosted(asks: str = "never", **more: Any) -> agents.HostedMCPTool:
    config: Any = {"type": "mcp", "server_label": "tickets", "require_approval": asks}
    return agents.HostedMCPTool(tool_config=config, **more)


@pytest.fixture(params=["responses", "websocket"])
async def hosting(
    request: pytest.FixtureRequest, client: openai.AsyncOpenAI
) -> AsyncIterator[agents.RunConfig]:
    """How the SDK reaches what runs in the gateway."""
    provider = OpenAIProvider(
        openai_client=client, use_responses_websocket=request.param == "websocket", use_responses=True
    )
    yield agents.RunConfig(model_provider=provider, tracing_disabled=True)
    await provider.aclose()


async def test_hosted_tool_of_a_server_runs_in_the_gateway(hosting: agents.RunConfig) -> None:
    result = await agents.Runner.run(agent(tools=[hosted()]), SEARCH, run_config=hosting)

    assert [item.raw_item.type for item in result.new_items] == ["mcp_list_tools", "mcp_call", "message"]
    assert result.final_output == FOUND


async def test_streamed_run_tells_of_the_call_of_a_server(hosting: agents.RunConfig) -> None:
    run = agents.Runner.run_streamed(agent(tools=[hosted()]), SEARCH, run_config=hosting)
    names = [event.name async for event in run.stream_events() if event.type == "run_item_stream_event"]

    assert names == ["mcp_list_tools", "tool_called", "message_output_created"]
    assert run.final_output == FOUND


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("chained", [False, True])
@pytest.mark.parametrize("approves", [True, False])
async def test_call_of_a_server_is_approved_by_the_run(
    hosting: agents.RunConfig, approves: bool, chained: bool, streamed: bool
) -> None:
    asked: list[Any] = []

    def answer(request: agents.MCPToolApprovalRequest) -> agents.MCPToolApprovalFunctionResult:
        asked.append((request.data.server_label, request.data.name, request.data.arguments))
        return {"approve": approves, "reason": "No."}

    run = agents.Runner.run_streamed if streamed else agents.Runner.run
    result: Any = run(
        agent(tools=[hosted("always", on_approval_request=answer)]),
        SEARCH,
        auto_previous_response_id=chained,
        run_config=hosting,
    )
    if streamed:
        events = [event async for event in result.stream_events()]
        assert events
    else:
        result = await result

    assert asked == [("tickets", "search", '{"query": "lamp"}')]
    assert (result.final_output == FOUND) is approves


async def test_interrupted_run_is_resumed_with_the_approval_of_a_person(hosting: agents.RunConfig) -> None:
    asking = agent(tools=[hosted("always")])
    first = await agents.Runner.run(asking, SEARCH, run_config=hosting)
    (interruption,) = first.interruptions
    state = first.to_state()
    state.approve(interruption)
    second = await agents.Runner.run(asking, state, run_config=hosting)

    assert second.final_output == FOUND


async def test_picture_is_part_of_the_input(either: agents.RunConfig) -> None:
    picture = "data:image/png;base64," + base64.b64encode(png_bytes()).decode()
    content = [
        {"type": "input_text", "text": "What is it?"},
        {"type": "input_image", "image_url": picture, "detail": "auto"},
    ]
    result = await agents.Runner.run(agent(), [{"role": "user", "content": content}], run_config=either)

    assert result.final_output == "The picture shows a red heart on a white background."


async def test_session_is_compacted_by_the_gateway(
    config: agents.RunConfig, client: openai.AsyncOpenAI
) -> None:
    session = agents.OpenAIResponsesCompactionSession(
        "one",
        agents.SQLiteSession("one"),
        client=client,
        model="gpt-5.5-codex",
        should_trigger_compaction=lambda _: True,
    )
    await agents.Runner.run(agent(), "My name is Alice.", session=session, run_config=config)
    kept = [item.get("type") for item in await session.get_items()]
    second = await agents.Runner.run(agent(), "What is my name?", session=session, run_config=config)

    assert kept == ["compaction"]
    assert second.final_output == "Your name is Alice."


async def test_settings_of_a_model_are_accepted(config: agents.RunConfig) -> None:
    settings = agents.ModelSettings(
        reasoning=Reasoning(effort="low", summary="auto"),
        verbosity="low",
        truncation="auto",
        store=False,
        response_include=["reasoning.encrypted_content"],
        parallel_tool_calls=True,
        metadata={"topic": "settings"},
    )
    result = await agents.Runner.run(agent(model_settings=settings), "Hello there", run_config=config)

    assert result.final_output == "You said: Hello there"


# ---------------------------------------------------------------- the SDK's own tools


class Screen(agents.Computer):
    """A computer that remembers what was done with it."""

    def __init__(self) -> None:
        self.done: list[tuple[Any, ...]] = []

    def screenshot(self) -> str:
        self.done.append(("screenshot",))
        return base64.b64encode(png_bytes()).decode()

    def click(self, x: int, y: int, button: Any) -> None:
        self.done.append(("click", x, y, button))

    def double_click(self, x: int, y: int) -> None:
        self.done.append(("double_click", x, y))

    def scroll(self, x: int, y: int, scroll_x: int, scroll_y: int) -> None:
        self.done.append(("scroll", x, y, scroll_x, scroll_y))

    def type(self, text: str) -> None:
        self.done.append(("type", text))

    def wait(self) -> None:
        self.done.append(("wait",))

    def move(self, x: int, y: int) -> None:
        self.done.append(("move", x, y))

    def keypress(self, keys: list[str]) -> None:
        self.done.append(("keypress", *keys))

    def drag(self, path: list[tuple[int, int]]) -> None:
        self.done.append(("drag", *path))


class Editor:
    """An editor that remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def create_file(self, operation: Any) -> str:
        self.asked.append(operation)
        return f"created {operation.path}"

    update_file = delete_file = create_file


async def test_agent_runs_commands_in_its_shell(config: agents.RunConfig) -> None:
    ran: list[str] = []

    async def run(request: agents.ShellCommandRequest) -> agents.ShellResult:
        ran.extend(request.data.action.commands)
        return agents.ShellResult([agents.ShellCommandOutput(stdout="a.txt")])

    result = await agents.Runner.run(
        agent(tools=[agents.ShellTool(run)]), "Use the shell to run 'ls'", run_config=config
    )

    assert ran == ["ls"]
    assert result.final_output == "The tool said: a.txt\n[exited]"


async def test_agent_runs_a_program_in_its_local_shell(config: agents.RunConfig) -> None:
    ran: list[list[str]] = []

    def run(request: agents.LocalShellCommandRequest) -> str:
        ran.append(request.data.action.command)
        return "a.txt"

    result = await agents.Runner.run(
        agent(tools=[agents.LocalShellTool(run)]), "Use the local_shell to run 'ls'", run_config=config
    )

    assert ran == [["ls"]]
    assert result.final_output == "The tool said: a.txt"


async def test_agent_has_its_editor_change_a_file(config: agents.RunConfig) -> None:
    editor = Editor()
    result = await agents.Runner.run(
        agent(tools=[agents.ApplyPatchTool(editor)]), "Use apply_patch on 'a.py'", run_config=config
    )

    assert [(one.type, one.path, one.diff) for one in editor.asked] == [("create_file", "a.py", "a.py")]
    assert result.final_output == "The tool said: The change was made.\ncreated a.py"


async def test_agent_uses_its_computer_and_is_shown_the_screen(
    config: agents.RunConfig, gateway: Served
) -> None:
    screen = Screen()
    result = await agents.Runner.run(
        agent(tools=[agents.ComputerTool(screen)]), "Use the computer at 7", run_config=config
    )
    shown = [
        part
        for message in gateway.asked()[-1]["messages"]
        if isinstance(message["content"], list)
        for part in message["content"]
        if part["type"] == "image_url"
    ]

    assert screen.done[0] == ("click", 7, 7, "left")
    assert len(shown) == 1
    assert result.final_output == "The picture shows a red heart on a white background."


async def test_agent_finds_a_tool_that_it_was_not_offered(config: agents.RunConfig, gateway: Served) -> None:
    @agents.function_tool(defer_loading=True)
    def get_tides(city: str) -> str:
        """Tell the tides of a city."""
        return f"{city} has high water"

    result = await agents.Runner.run(
        agent(tools=[get_tides, agents.ToolSearchTool()]),
        "Use tool_search for 'tides'",
        run_config=config,
    )

    assert "get_tides" in str(result.final_output)
    assert [tool["function"]["name"] for tool in gateway.asked()[-1]["tools"]] == ["get_tides"]
