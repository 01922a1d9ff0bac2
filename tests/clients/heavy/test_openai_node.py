"""openai for Node, unmodified: `openai_node.mjs` plays the scenes, and here is what each must bring."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.clients.serving import ROOT, Served

NODE = ROOT / ".tools/clients-node"
SCRIPT = Path(__file__).with_name("openai_node.mjs")
SAID = "You said: Hello there"
THOUGHT = {"shape": ["reasoning", "message"], "thought": "Let me see.", "text": SAID}
EXPECTED: dict[str, Any] = {
    "text": SAID,
    "reasoning": THOUGHT,
    "summary": THOUGHT,
    "toldAgain": THOUGHT,
    "background": ["reasoning", "message"],
    "parsed": {"city": "Paris"},
    "called": {"shape": ["function_call"], "city": "Paris"},
    "answered": "The tool said: Paris is sunny",
    "events": True,
    "chat": SAID,
    "chatTool": "The tool said: Paris is sunny",
    "chatParsed": {"city": "Paris"},
}


@pytest.fixture(scope="module")
def played(gateway: Served) -> dict[str, Any]:
    """What each scene brought."""
    command = [NODE / "node_modules/.bin/node", "--input-type=module"]
    return gateway.scenes(command, input=SCRIPT.read_text(), cwd=NODE)  # where the script's imports are found


@pytest.mark.parametrize("scene", list(EXPECTED))
def test_scene_brings_what_it_must(played: dict[str, Any], scene: str) -> None:
    assert played[scene] == EXPECTED[scene]
