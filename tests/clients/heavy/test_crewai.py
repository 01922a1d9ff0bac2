"""CrewAI, unmodified: a crew works by chat completions and by responses, with the older `openai` that
it brings.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from tests.clients.serving import Served

os.environ.update(
    OTEL_SDK_DISABLED="true",
    CREWAI_DISABLE_TELEMETRY="true",
    CREWAI_TRACING_ENABLED="false",
    CREWAI_TESTING="true",
)

from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool
from pydantic import BaseModel


class Place(BaseModel):
    """What a question is about."""

    city: str


@tool("get_weather")
def get_weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"{city} is sunny"


@pytest.fixture(params=[{}, {"api": "responses"}], ids=["chat", "responses"])
def llm(request: pytest.FixtureRequest, gateway: Served) -> Any:
    return LLM(model="openai/small", base_url=gateway.url, api_key=gateway.token, **request.param)


def worked(llm: Any, description: str, **options: Any) -> Any:
    agent = Agent(
        role="Reporter",
        goal="Report.",
        backstory="A reporter.",
        llm=llm,
        tools=options.pop("tools", []),
        verbose=False,
    )
    task = Task(description=description, expected_output="One line.", agent=agent, **options)
    return Crew(agents=[agent], tasks=[task], verbose=False).kickoff()


def test_crew_works_off_its_task(llm: Any) -> None:
    assert "Tell me of Alderney" in worked(llm, "Tell me of Alderney").raw


def test_crew_uses_its_tool(llm: Any) -> None:
    assert (
        worked(llm, "What is the weather in 'Paris'?", tools=[get_weather]).raw
        == "The tool said: Paris is sunny"
    )
