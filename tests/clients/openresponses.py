"""Runs a local copy of the Open Responses acceptance tests against a gateway before the rule-driven model:
`make openresponses SUITE=path`.

The copy is the caller's: nothing of it is part of this repository. Its tests run under Bun and want `zod` in
its `node_modules`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.clients.serving import ROOT, served

RUNNER = Path("bin/compliance-test.ts")


def main(suite: Path, *options: str) -> int:
    """Run the suite; return its exit code: 0 when all its tests pass."""
    if not (suite / RUNNER).is_file():
        print(f"{suite} is no copy of the Open Responses repository: it has no {RUNNER}", file=sys.stderr)
        return 2
    bun = shutil.which("bun") or str(ROOT / ".tools/clients-node/node_modules/.bin/bun")
    with served() as gateway:
        command = [bun, "run", str(RUNNER), "--base-url", gateway.url, "--model", "small", *options]
        return subprocess.run(
            command, cwd=suite, env={**os.environ, "OPENRESPONSES_API_KEY": gateway.token}, check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
