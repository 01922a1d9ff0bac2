"""Runs all parts, or those named: `python -m bench overhead retrieval`."""

from __future__ import annotations

import subprocess
import sys

PARTS = (
    "policy",
    "lists",
    "tools",
    "overhead",
    "streams",
    "retrieval",
    "documents",
    "vectors",
    "audit",
    "peers",
    "tracing",
)


def main() -> int:
    """Run the parts one after the other, each in a process of its own; return the first failure's
    exit code.
    """
    parts = sys.argv[1:] or PARTS
    for part in parts:
        if part not in PARTS:
            print(f"no such part: {part}; there are {', '.join(PARTS)}", file=sys.stderr)
            return 2
        print(f"== {part}", flush=True)
        code = subprocess.run([sys.executable, "-m", f"bench.{part}"], check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
