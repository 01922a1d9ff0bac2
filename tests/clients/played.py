"""Runs a script of `examples/` as its reader would, and returns what it printed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.clients.serving import ROOT, Served

LIGHTHOUSE = "The lighthouse of Alderney is open on Sundays."


def played(example: str, gateway: Served, folder: Path, question: str, **environment: str) -> str:
    """What the example prints when it is asked the question of a document in the folder."""
    document = folder / "lighthouse.md"
    document.write_text(LIGHTHOUSE)
    return subprocess.run(
        [sys.executable, ROOT / "examples" / example, document, question, "small"],
        cwd=folder,
        env={**os.environ, "OPENAI_BASE_URL": gateway.url, "OPENAI_API_KEY": gateway.token, **environment},
        stdout=subprocess.PIPE,
        text=True,
        timeout=100,
        check=True,
    ).stdout
