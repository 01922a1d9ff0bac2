"""OPA as these checks call it: the binary found in `.tools` or on PATH, and one call that returns what
it wrote. Not the gateway's adapter.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
POLICIES: Final = ROOT / "rego"
TESTS: Final = ROOT / "policy-tests"
SCHEMAS: Final = POLICIES / "schemas"

# The schemas are no data: without this, `opa test` would merge them into one document and find conflicts.
TEST_ARGUMENTS: Final = (
    "--ignore",
    "schemas",
    "--fail-on-empty",
    "--timeout",
    "60s",
)  # a machine may be busy

_DEADLINE_SECONDS: Final = 120


class Fault(Exception):
    """OPA refused or failed; the message is what it said."""


def binary() -> str:
    """Return the path of OPA; raises `Fault` when there is none."""
    local = ROOT / ".tools" / "opa"
    found = str(local) if local.exists() else shutil.which("opa")
    if found is None:
        raise Fault("no opa in .tools or on PATH: run `make setup`")
    return found


def call(*arguments: str, given: str = "") -> str:
    """Return what OPA wrote for these arguments; raises `Fault` with its words when it exits other
    than with 0.
    """
    command = [binary(), *arguments]
    done = subprocess.run(
        command, cwd=ROOT, input=given, capture_output=True, text=True, timeout=_DEADLINE_SECONDS, check=False
    )
    if done.returncode != 0:
        raise Fault(
            (done.stderr + done.stdout).strip() or f"{' '.join(arguments)} exited with {done.returncode}"
        )
    return done.stdout


def read(*arguments: str, given: str = "") -> Any:  # JSON of many shapes, read at this edge only
    """Return the JSON that OPA wrote for these arguments; raises `Fault` as `call` does."""
    return json.loads(call(*arguments, given=given))
