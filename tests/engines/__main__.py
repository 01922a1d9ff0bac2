"""Every vector engine that runs here on trial, in one command: the conformance suite, noninterference in
each mode, and the proof against OPA. `python -m tests.engines --into .tools` (`make engines`).

Obtains the servers that a registry has, tries each engine, and writes the table of docs/engine-table.md.
Exits 1 when a check failed or a decision differed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import sys
import tempfile
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.engines import opensearch, weaviate
from tests.engines.trial import Trial, tried
from tests.patience import wait_patiently

from regate_adapters.testing.proof.__main__ import prove
from regate_adapters.testing.proof.tally import Tally, table
from regate_adapters.testing.proof.targets import engines_here, open_targets
from regate_adapters.testing.vector.suite import SCHEMA
from regate_adapters.vector.registry import KINDS

_TABLE: Final = Path(__file__).parents[2] / "docs" / "engine-table.md"
_MARK: Final = "<!-- made by `make engines` from here on -->\n"
_RAN: Final = {
    "qdrant": "Qdrant's engine as a library (qdrant-edge), behind its documented HTTP API",
    "milvus": "Milvus Lite as a server",
    "chroma_server": "as `chroma`; its failures in tests of its own",
    "oracle": "never; a stand-in of its driver in the tests",
    "elasticsearch": "never; OpenSearch behind a translator in the tests",
}
"""What was run in place of the very thing."""


async def _trials(only: list[str], folder: Path) -> list[Trial]:
    found = []
    async with AsyncExitStack() as stack:
        engines = engines_here(folder / "trial", stack)
        for kind, reason in engines.absent.items():
            _tell(f"{kind} is not here: {reason}", end="\n")
        for kind, configured in engines.configured.items():
            if only and kind not in only:
                continue
            store = await stack.enter_async_context(KINDS[kind].open(configured, SCHEMA))
            trial = await tried(kind, store, dict(KINDS[kind].refuses), _tell)
            _tell(f"{kind}: {trial.passed} checks passed, {len(trial.failed)} failed", end="\n")
            for line in trial.failed:
                _tell(f"FAILED {kind}: {line}", end="\n")
            found.append(trial)
    return found


async def _proof(decisions: int, folder: Path) -> tuple[list[Tally], list[str]]:
    seed = secrets.randbelow(2**32)
    _tell(f"proof: {decisions} decisions on each, seed {seed}", end="\n")
    (folder / "proof").mkdir()
    async with open_targets(folder / "proof") as targets:
        outcome = await prove(targets.opened, decisions=decisions, seed=seed, folder=folder / "proof")
    print(table(outcome.tallies.values()))
    return list(outcome.tallies.values()), outcome.faults()


def _tell(line: str, *, end: str = "\r") -> None:
    if end == "\n" or sys.stderr.isatty():
        print(f"{line[:100]:<100}", end=end, file=sys.stderr, flush=True)


def _written(trials: list[Trial], tallies: list[Tally]) -> str:
    by_kind = {trial.kind: trial for trial in trials}
    typed = {tally.target: tally for tally in tallies if tally.universe == "typed"}
    columns = (
        *("engine", "run against", "checks", "filters it takes", "refuses", "by words", "noninterference"),
        *("a search alone / beside 20 times as many of others", "proof: decisions, differing"),
    )
    lines = [f"| {' | '.join(columns)} |", f"| {' | '.join('---' for _ in columns)} |"]
    for name, kind in KINDS.items():
        trial, tally = by_kind.get(name), typed.get(name)
        ran = _RAN.get(name, "itself" if trial else "not here")
        if trial is None:
            lines.append(f"| `{name}` | {ran} | – | – | {_refuses(kind.refuses)} | – | – | – | – |")
            continue
        words = "its own" if "keyword" in trial.modes else "with `words`"
        modes = "vector, keyword, hybrid" if not _broken(trial) else "**no**"
        times = f"{trial.alone_ms:.1f} / {trial.beside_ms:.1f} ms"
        share, proof = "–", "–"
        if tally is not None:
            share = f"{tally.accepted / (tally.accepted + tally.inexpressible.total()):.0%}"
            proof = f"{tally.decisions:,}, {tally.mismatches}"
        checks = f"{trial.passed} of {trial.passed + len(trial.failed)}"
        refuses = _refuses(kind.refuses)
        lines.append(
            f"| `{name}` | {ran} | {checks} | {share} | {refuses} | {words} | {modes} | {times} | {proof} |"
        )
    return "\n".join(lines) + "\n"


def _refuses(refuses: object) -> str:
    names = [name.replace("_", " ") for name in refuses] if isinstance(refuses, dict) else []
    return ", ".join(names) or "nothing"


def _broken(trial: Trial) -> bool:
    return any("foreign" in line or "others" in line for line in trial.failed)


async def _run(only: list[str], decisions: int) -> int:
    wait_patiently()
    with tempfile.TemporaryDirectory(prefix="regate-engines-") as name:
        folder = Path(name)
        (folder / "trial").mkdir()
        trials = await _trials(only, folder)
        tallies, faults = await _proof(decisions, folder) if decisions else ([], [])
    for fault in faults:
        print(f"FAILED {fault}")
    if not only:
        head = _TABLE.read_text().partition(_MARK)[0]
        when = f"\nRun on {datetime.now(UTC):%Y-%m-%d} with {decisions:,} decisions.\n"
        _TABLE.write_text(head + _MARK + "\n" + _written(trials, tallies) + when)
        print(f"wrote {_TABLE.relative_to(Path.cwd())}")
    return 1 if faults or any(trial.failed for trial in trials) else 0


def main() -> None:
    """Obtain what can be had, and try every engine."""
    parser = argparse.ArgumentParser(prog="python -m tests.engines", description=__doc__)
    parser.add_argument("--into", type=Path, help="where servers are obtained to; without it none is")
    parser.add_argument("--only", action="append", default=[], choices=KINDS, help="try this engine alone")
    parser.add_argument("--decisions", type=int, default=20_000, help="of the proof; 0 for none")
    given = parser.parse_args()
    if given.into is not None:
        for server in (opensearch, weaviate):
            server.main(["--into", str(given.into)])
    os.environ.setdefault("TMPDIR", tempfile.gettempdir())
    sys.exit(asyncio.run(_run(given.only, given.decisions)))


if __name__ == "__main__":
    main()
