"""The example of the README runs as it is, in a process of its own. Those that need more than the SDK
are in `heavy/`.
"""

from __future__ import annotations

from pathlib import Path

from tests.clients.played import LIGHTHOUSE, played
from tests.clients.serving import Served


def test_example_of_a_question_and_its_document(gateway: Served, tmp_path: Path) -> None:
    said = played("rag.py", gateway, tmp_path, "Use file_search for the lighthouse.")

    assert LIGHTHOUSE in said
    assert said.splitlines()[-1] == "cites: lighthouse.md"
