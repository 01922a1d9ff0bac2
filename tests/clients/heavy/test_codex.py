"""The Codex CLI, unmodified, with `wire_api = "responses"`: what it sends by itself is accepted, and
its tools work through the gateway.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.clients.model import text_of
from tests.clients.serving import ROOT, Served

NODE = ROOT / ".tools/clients-node/node_modules"
CONFIG = """
model = "small"
model_provider = "regate"
[model_providers.regate]
name = "Regate"
base_url = "{url}"
wire_api = "responses"
env_key = "REGATE_TOKEN"
"""

Codex = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def codex(gateway: Served, tmp_path: Path) -> Codex:
    """Runs `codex exec` in a folder and a home of the test's own, and returns what it reports."""
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    (home / "config.toml").write_text(CONFIG.format(url=gateway.url))

    def run(*arguments: str, **settings: Any) -> list[dict[str, Any]]:
        options = [
            part
            for name, value in settings.items()
            for part in ("-c", f"{name.replace('__', '.')}={json.dumps(value)}")
        ]
        flags = ["--json", "--skip-git-repo-check", "--sandbox", "workspace-write"]
        said = subprocess.run(
            [NODE / ".bin/node", NODE / "@openai/codex/bin/codex.js", "exec", *flags, *options, *arguments],
            cwd=work,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(home),
                "CODEX_HOME": str(home),
                "REGATE_TOKEN": gateway.token,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        ).stdout
        return [json.loads(line) for line in said.splitlines()]

    return run


def items(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The items of a kind that were completed."""
    return [
        event["item"]
        for event in events
        if event["type"] == "item.completed" and event["item"]["type"] == kind
    ]


def answer(events: list[dict[str, Any]]) -> str:
    assert [event for event in events if event["type"] in ("error", "turn.failed")] == []
    return str(items(events, "agent_message")[-1]["text"])


def test_codex_is_answered(codex: Codex) -> None:
    events = codex("Reply with exactly: all is well")

    assert answer(events) == "all is well"
    assert [event["usage"]["output_tokens"] for event in events if event["type"] == "turn.completed"] == [3]


def test_codex_runs_a_command_and_reports_what_it_printed(codex: Codex) -> None:
    events = codex("exec_command('echo the lamp is lit')")

    assert [command["exit_code"] for command in items(events, "command_execution")] == [0]
    assert "the lamp is lit" in answer(events)


def test_codex_edits_a_file_with_its_free_text_tool(codex: Codex, tmp_path: Path) -> None:
    patch = "*** Begin Patch\n*** Add File: lamp.txt\n+lit\n*** End Patch"
    events = codex("--model", "gpt-5.5-codex", f"apply_patch('{patch}')")

    assert "Success" in answer(events)
    assert (tmp_path / "work/lamp.txt").read_text() == "lit\n"


def test_codex_recognises_a_call_of_a_tool_in_a_namespace(codex: Codex, gateway: Served) -> None:
    events = codex("multi_agent_v1__close_agent('nobody')")

    assert "nobody" in answer(events)
    assert (
        gateway.asked()[-1]["messages"][-2]["tool_calls"][0]["function"]["name"]
        == "multi_agent_v1__close_agent"
    )


def test_codex_calls_a_tool_of_a_server_that_it_reaches_itself(codex: Codex, gateway: Served) -> None:
    events = codex(
        "mcp__tickets__search('lamp')",
        mcp_servers__tickets__url=gateway.tickets,
        mcp_servers__tickets__default_tools_approval_mode="approve",
    )

    assert [(call["tool"], call["status"]) for call in items(events, "mcp_tool_call")] == [
        ("search", "completed")
    ]
    assert "Ticket 7 is open." in answer(events)


def test_codex_resumes_its_conversation(codex: Codex) -> None:
    codex("My name is Alice.")

    assert answer(codex("resume", "--last", "What is my name?")) == "Your name is Alice."


def test_codex_compacts_a_long_conversation(codex: Codex, gateway: Served) -> None:
    codex("My name is Alice.")
    told = answer(codex("resume", "--last", "What is my name?", model_auto_compact_token_limit=100))
    asked = [text_of(request["messages"][-1]) for request in gateway.asked()[-3:]]

    assert told == "Your name is Alice."
    assert any("CONTEXT CHECKPOINT COMPACTION" in question for question in asked)


def test_codex_works_over_a_websocket(codex: Codex, gateway: Served) -> None:
    before = gateway.websockets()
    events = codex("exec_command('echo the lamp is lit')", model_providers__regate__supports_websockets=True)

    assert [command["exit_code"] for command in items(events, "command_execution")] == [0]
    assert "the lamp is lit" in answer(events)
    assert gateway.websockets() == before + 1


def test_codex_is_refused_a_web_search_that_reaches_the_web(codex: Codex) -> None:
    events = codex("Hello", web_search="live")

    assert "web_search" in " ".join(event["message"] for event in events if event["type"] == "error")
