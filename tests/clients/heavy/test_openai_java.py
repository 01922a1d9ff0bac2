"""openai for Java, unmodified: `openai_java/` plays the scenes, and here is what each must bring."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.clients.serving import Served

SOURCE = Path(__file__).with_name("openai_java")
SAID = "You said: Hello there"
EXPECTED: dict[str, Any] = {
    "text": SAID,
    "streamed": {"text": SAID, "shape": ["reasoning", "message"]},
    "previous": "Your name is Alice.",
    "called": '{"city": "Paris"}',
    "unknownPrevious": [400, "previous_response_not_found"],
    "chat": SAID,
    "httpClientOfTheJdk": [200, SAID],
}

pytestmark = pytest.mark.skipif(shutil.which("mvn") is None, reason="there is no Maven")


@pytest.fixture(scope="module")
def played(gateway: Served, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each scene brought."""
    classpath = tmp_path_factory.mktemp("java") / "classpath"
    resolve = ["mvn", "-q", "-B", "dependency:build-classpath", f"-Dmdep.outputFile={classpath}"]
    subprocess.run(resolve, cwd=SOURCE, timeout=900, check=True)
    return gateway.scenes(["java", "-cp", classpath.read_text(), "Scenes.java"], cwd=SOURCE)


@pytest.mark.parametrize("scene", list(EXPECTED))
def test_scene_brings_what_it_must(played: dict[str, Any], scene: str) -> None:
    assert played[scene] == EXPECTED[scene]
