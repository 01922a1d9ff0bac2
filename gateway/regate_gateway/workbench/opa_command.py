"""OPA's command line, as the policy commands use it: one call, its output and its findings. Not the
server; that is `regate_adapters.opa`.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from regate_adapters.opa.acceptance.findings import Finding
from regate_gateway.workbench.opa_advice import advised
from regate_orchestrator.errors import ConfigurationError

_DEADLINE_SECONDS: Final = 120


@dataclass(frozen=True, slots=True)
class Said:
    """What a call of OPA came to."""

    status: int
    out: bytes
    err: bytes

    @property
    def words(self) -> str:
        """Return what OPA said for people, wherever it said it."""
        return (self.err or self.out).decode(errors="replace").strip()


@dataclass(frozen=True, slots=True)
class OpaCommand:
    """An `opa` executable, run in one directory with an empty environment, since policies under test
    can read it.
    """

    binary: Path
    directory: Path

    def run(self, *arguments: str, given: bytes = b"") -> Said:
        """Return what OPA said to the arguments. Raises `ConfigurationError` when it does not run or
        does not end in time.
        """
        command = [str(self.binary), *arguments]
        try:
            done = subprocess.run(
                command,
                cwd=self.directory,
                input=given,
                capture_output=True,
                check=False,
                timeout=_DEADLINE_SECONDS,
                env={},
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ConfigurationError(f"opa {arguments[0]} did not run: {error}") from error
        return Said(done.returncode, done.stdout, done.stderr)


def reported_errors(said: Said, code: str) -> list[Finding]:
    """Return the errors in the JSON that OPA wrote, with their places; its plain words as one finding
    when it wrote no JSON.
    """
    for output in (said.out, said.err):
        try:
            errors = json.loads(output)["errors"]
        except (ValueError, KeyError, TypeError):
            continue
        return [_error(error, code) for error in errors]
    return [
        Finding(
            code,
            " ".join(said.words.split()) or f"opa ended with status {said.status} and said nothing",
            "opa",
        )
    ]


def _error(error: dict[str, Any], code: str) -> Finding:
    location = error.get("location") or {}
    message = " ".join(str(error.get("message", "")).split())
    details = error.get("details")
    if isinstance(details, dict) and isinstance(details.get("oneOf"), list):
        message += f"; there is: {', '.join(map(str, details['oneOf']))}"
    return Finding(
        code,
        f"{advised(message)} ({error.get('code', 'error')})",
        str(location.get("file", "")).lstrip("/") or "opa",
        int(location.get("row", 0)),
    )
