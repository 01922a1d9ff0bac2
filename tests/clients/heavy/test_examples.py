"""The examples that need CrewAI or LangGraph, run as they are."""

from __future__ import annotations

from pathlib import Path

from tests.clients.played import LIGHTHOUSE, played
from tests.clients.serving import Served


def test_example_of_a_langgraph_agent_uses_the_gateways_tool(gateway: Served, tmp_path: Path) -> None:
    assert LIGHTHOUSE in played(
        "langgraph_agent.py", gateway, tmp_path, "Use file_search for the lighthouse."
    )


def test_example_of_a_langgraph_agent_uses_its_own_tool(gateway: Served, tmp_path: Path) -> None:
    said = played("langgraph_agent.py", gateway, tmp_path, "How many days_taken by 'Alice'?")

    assert said.splitlines() == ["ai:  days_taken({'person': 'Alice'})", "tool: 12", "ai: The tool said: 12"]


def test_example_of_a_crew(gateway: Served, tmp_path: Path) -> None:
    quiet = {
        "OTEL_SDK_DISABLED": "true",
        "CREWAI_DISABLE_TELEMETRY": "true",
        "CREWAI_TRACING_ENABLED": "false",
    }

    assert LIGHTHOUSE in played("crewai_crew.py", gateway, tmp_path, "What of the lighthouse?", **quiet)
