"""What a gateway's process asks of the system, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_MEMORY = """
import json, sys
from regate_gateway.composition.process import prepare

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 // 1_000_000

if sys.argv[1] == "prepared":
    prepare(most_connections=1)
b"z" * 4_000_000  # freed at once: from here on glibc would keep pieces of this size
before, kept, freed = resident(), [], []
for number in range(40):
    freed.append(b"x" * 4_000_000)
    kept.append(b"y" * 100_000)
peak = resident()
freed.clear()
print(json.dumps([before, peak, resident()]))
"""

_FILES = """
import json, logging, resource, sys
from regate_gateway.composition.process import prepare

soft, hard, connections = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
logging.basicConfig(format="%(message)s", stream=sys.stdout)
prepare(most_connections=connections)
print(json.dumps(resource.getrlimit(resource.RLIMIT_NOFILE)))
"""


def run(program: str, *arguments: str) -> list[str]:
    paths = [str(Path(entry).resolve()) for entry in sys.path if entry]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}\n{program}", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return done.stdout.splitlines()


def measured(*arguments: str) -> Any:
    (said,) = run(_MEMORY, *arguments)
    return json.loads(said)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the resident memory as Linux tells it")
def test_large_memory_goes_back_when_it_is_freed() -> None:
    before, peak, after = measured("prepared")

    assert peak - before > 150
    assert after - before < 30


@pytest.mark.parametrize(
    ("soft", "hard", "connections", "lines"),
    [
        (256, 2_048, 1_000, []),
        (1_024, 1_024, 500, []),
        (1_024, 1_024, 1_000, ["open_files_few"]),
    ],
)
def test_as_many_files_may_be_open_as_this_user_is_allowed_and_a_low_limit_is_told(
    soft: int, hard: int, connections: int, lines: list[str]
) -> None:
    *logged, limits = run(_FILES, str(soft), str(hard), str(connections))

    assert (logged, json.loads(limits)) == (lines, [hard, hard])
