"""The Vercel AI SDK, unmodified, under Node: `vercel.mjs` plays the scenes, and here is what each
must bring.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.clients.model import embedding_of
from tests.clients.serving import ROOT, Served
from tests.media import pdf_bytes, png_bytes

NODE = ROOT / ".tools/clients-node"
SCRIPT = Path(__file__).with_name("vercel.mjs")
WEATHER = "The tool said: Paris is sunny"
NAME = "Your name is Alice."
EXPECTED: dict[str, Any] = {
    "text": "You said: Hello there",
    "tool": {"text": WEATHER, "steps": 2},
    "streamedTool": {"text": WEATHER, "steps": 2},
    "object": {"city": "Paris"},
    "turnsNotStored": NAME,
    "turns": NAME,
    "turnsAfterTool": NAME,
    "previous": NAME,
    "reasoning": "You said: Hello there",
    "image": "The picture shows a red heart on a white background.",
    "document": "You said: What is said?[File: lamp.pdf]\nThe lamp is lit at dusk.",
    "chat": WEATHER,
    "embeddings": [pytest.approx(embedding_of(text)) for text in ("one", "two")],
}


@pytest.fixture(scope="module")
def played(gateway: Served) -> dict[str, Any]:
    """What each scene brought."""
    with openai.OpenAI(base_url=gateway.url, api_key=gateway.token) as client:
        store = client.vector_stores.create(name="places").id
        file = ("lighthouse.txt", b"The lighthouse of Alderney is open on Sundays.")
        client.vector_stores.files.upload_and_poll(vector_store_id=store, file=file, poll_interval_ms=20)
    said = subprocess.run(
        [NODE / "node_modules/.bin/node", "--input-type=module"],
        input=SCRIPT.read_text(),
        cwd=NODE,  # where the script's imports are found
        env={
            **os.environ,
            "OPENAI_BASE_URL": gateway.url,
            "OPENAI_API_KEY": gateway.token,
            "STORE": store,
            "PICTURE": base64.b64encode(png_bytes()).decode(),
            "DOCUMENT": base64.b64encode(pdf_bytes("The lamp is lit at dusk.")).decode(),
        },
        stdout=subprocess.PIPE,
        text=True,
        timeout=100,
        check=True,
    ).stdout
    scenes = [json.loads(line) for line in said.splitlines()]
    return {scene["scene"]: scene.get("result", scene.get("error")) for scene in scenes}


@pytest.mark.parametrize("scene", list(EXPECTED))
def test_scene_brings_what_it_must(played: dict[str, Any], scene: str) -> None:
    assert played[scene] == EXPECTED[scene]


def test_answer_is_streamed_in_pieces(played: dict[str, Any]) -> None:
    pieces = [piece for piece in played["streamed"]["pieces"] if piece]
    assert "".join(pieces) == ", ".join(str(number) for number in range(1, 21))
    assert len(pieces) > 1
    assert played["streamed"]["tokens"] > 0


def test_hosted_file_search_brings_its_sources(played: dict[str, Any]) -> None:
    assert "open on Sundays" in played["fileSearch"]["text"]
    assert played["fileSearch"]["sources"] == ["lighthouse.txt"]
