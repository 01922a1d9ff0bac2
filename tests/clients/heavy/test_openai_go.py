"""openai for Go, unmodified: `openai_go/main.go` plays the scenes, and here is what each must bring."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.clients.serving import Served

SOURCE = Path(__file__).with_name("openai_go")
SAID = "You said: Hello there"
EXPECTED: dict[str, Any] = {
    "text": SAID,
    "streamed": {"text": SAID, "shape": ["reasoning", "message"], "id": True},
    "streamedAgain": {"text": SAID, "shape": ["message"], "id": True},
    "previous": "Your name is Alice.",
    "called": '{"city": "Paris"}',
    "unknownPrevious": [400, "previous_response_not_found"],
    "chat": SAID,
}

pytestmark = pytest.mark.skipif(shutil.which("go") is None, reason="there is no Go")


@pytest.fixture(scope="module")
def played(gateway: Served, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each scene brought."""
    program = tmp_path_factory.mktemp("go") / "openai_go"
    subprocess.run(["go", "build", "-o", program, "."], cwd=SOURCE, timeout=600, check=True)
    return gateway.scenes([program])


@pytest.mark.parametrize("scene", list(EXPECTED))
def test_scene_brings_what_it_must(played: dict[str, Any], scene: str) -> None:
    assert played[scene] == EXPECTED[scene]
