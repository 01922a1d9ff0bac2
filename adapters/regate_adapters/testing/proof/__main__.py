"""The proof by trial, as a command: `python -m regate_adapters.testing.proof.__main__ --decisions 100000`.

Random policies for random principals on random rows; whatever is accepted as a filter must find, on every
target, exactly the rows that OPA admits when it evaluates the rule in full for each. `grammar.py` writes the
policies, `oracle.py` runs OPA, `targets.py` holds what is proven, `tally.py` counts, and `shrink.py` makes a
mismatch small and keeps it.

Everything follows from the seed, which is printed: a run with the same seed asks the same questions.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import click

from regate_adapters.opa.residual import NotUnderstood
from regate_adapters.testing.proof.grammar import Grammar
from regate_adapters.testing.proof.oracle import (
    UNIVERSES,
    Case,
    NotLoaded,
    Oracle,
    Rows,
    Universe,
    UniverseName,
    running_oracle,
)
from regate_adapters.testing.proof.rows import some_principal
from regate_adapters.testing.proof.shrink import Mismatch, shrink, write_counterexample
from regate_adapters.testing.proof.tally import Tally, reason_of, table
from regate_adapters.testing.proof.targets import Target, open_targets
from regate_orchestrator.errors import FilterNotExpressible, PolicyUnavailable

_POLICIES: Final[Mapping[UniverseName, int]] = {"dirty": 100, "typed": 180}
_PRINCIPALS: Final = 2
_ROWS: Final = 64
_WORKERS: Final = 4
_SHRUNK: Final = 3
_FIXTURES: Final = Path("tests/fixtures/counterexamples")


@dataclass(slots=True)
class Outcome:
    """What a run found."""

    seed: int
    tallies: Mapping[tuple[UniverseName, str], Tally]
    mismatches: list[Mismatch] = field(default_factory=list)

    @property
    def decisions(self) -> int:
        """Return how many decisions every target has had compared at least."""
        return min(tally.decisions for tally in self.tallies.values())

    def faults(self) -> list[str]:
        """Return why the run is no proof; empty when it is one."""
        return [fault for tally in self.tallies.values() for fault in tally.faults()]

    def note(
        self, case: Case, target: Target, *, found: str, right: frozenset[str], actual: frozenset[str]
    ) -> None:
        """Count one compared plan, and keep the case when the target was wrong."""
        wrong = right ^ actual
        tally = self.tallies[case.universe, target.name]
        tally.compared(
            permitted=len(right), rows=len(case.rows), wrong=len(wrong), wider=bool(actual - right)
        )
        if wrong:
            self.mismatches.append(Mismatch(target.name, case, found))


async def prove(
    targets: Sequence[Target],
    *,
    decisions: int,
    seed: int,
    folder: Path,
    tell: Callable[[Outcome], None] = lambda _outcome: None,
    checked: bool = True,
) -> Outcome:
    """Compare targets and oracle in batches until each target had this many decisions compared, or a batch
    found a fault.

    The folder must exist; the policies go there. `tell` is called after each policy, with the counts so far.
    Without `checked` policies that the load check refuses are compared as well, which shows what it is for.
    """
    outcome = Outcome(
        seed, {(target.universe, target.name): Tally(target.name, target.universe) for target in targets}
    )
    for batch in itertools.count():
        await _prove_batch(
            outcome, batch, targets, folder=folder / f"batch{batch}", tell=tell, checked=checked
        )
        if outcome.decisions >= decisions or outcome.faults():
            break
    return outcome


def random_cases(universe: Universe, seed: str, rows: Rows) -> Iterator[tuple[str, Case]]:
    """Yield a batch's policies by name, with no principal yet; the same for the same seed."""
    for number in range(_POLICIES[universe.name]):
        name = f"{universe.name}{number:03}"
        grammar = Grammar(f"{seed}/{name}", modern=number % 2 == 1, forms=universe.forms)
        yield name, Case(universe.name, grammar.policy(), {}, rows)


# ------------------------------------------------------ one batch: many policies in one OPA, rows loaded once


async def _prove_batch(
    outcome: Outcome,
    batch: int,
    targets: Sequence[Target],
    *,
    folder: Path,
    tell: Callable[[Outcome], None],
    checked: bool,
) -> None:
    wanted = [
        universe
        for universe in UNIVERSES.values()
        if any(target.universe == universe.name for target in targets)
    ]
    rows = {
        universe.name: _rows(universe, f"{outcome.seed}/{batch}/{universe.name}/rows") for universe in wanted
    }
    for target in targets:
        await target.load(rows[target.universe])
    seed = f"{outcome.seed}/{batch}"
    cases = {
        name: case for universe in wanted for name, case in random_cases(universe, seed, rows[universe.name])
    }
    async with running_oracle(
        {name: case.policy for name, case in cases.items()}, folder=folder, checked=checked
    ) as oracle:
        waiting = iter(cases.items())
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_WORKERS):
                tasks.create_task(_work(outcome, oracle, waiting, targets, batch=batch, tell=tell))


async def _work(
    outcome: Outcome,
    oracle: Oracle,
    waiting: Iterator[tuple[str, Case]],
    targets: Sequence[Target],
    *,
    batch: int,
    tell: Callable[[Outcome], None],
) -> None:
    for name, case in waiting:
        found = f"seed {outcome.seed}, batch {batch}, policy {name}"
        source = random.Random(f"{found}/principals")  # noqa: S311 — repeatable, not secret
        for _ in range(_PRINCIPALS):
            own = [target for target in targets if target.universe == case.universe]
            await _compare(
                outcome,
                oracle,
                name,
                replace(case, principal=some_principal(source)),
                targets=own,
                found=found,
            )
        tell(outcome)


async def _compare(
    outcome: Outcome, oracle: Oracle, name: str, case: Case, *, targets: Sequence[Target], found: str
) -> None:
    tallies = {target.name: outcome.tallies[case.universe, target.name] for target in targets}
    for tally in tallies.values():
        tally.plans += 1
    try:
        plan = await oracle.plan(name, case)
    except NotLoaded as refusal:
        for tally in tallies.values():
            tally.unloaded.update(refusal.codes)
            tally.refused_at_load += 1
        return
    except NotUnderstood as refusal:
        for tally in tallies.values():
            tally.untranslated[reason_of(refusal.reason)] += 1
        return
    except (
        PolicyUnavailable
    ):  # partial evaluation ended in an error: no filter, so nothing that could be wider
        for tally in tallies.values():
            tally.untranslated["an error"] += 1
        return
    right = await oracle.admitted(name, case)
    for target in targets:
        try:
            actual = await target.matching(plan)
        except FilterNotExpressible as refusal:
            tallies[target.name].inexpressible[reason_of(refusal.detail)] += 1
            continue
        outcome.note(case, target, found=found, right=right, actual=actual)


def _rows(universe: Universe, seed: str) -> Rows:
    source = random.Random(seed)  # noqa: S311
    return {f"row-{number:03}": universe.row(source) for number in range(_ROWS)}


# ---------------------------------------------------------------- the command


async def _run(decisions: int, seed: int, fixtures: Path) -> int:
    """Prove, report, shrink and keep what was wrong; return the exit status."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="regate-proof-") as name:
        folder = Path(name)
        async with open_targets(folder) as targets:
            with _bar(decisions) as tell:
                outcome = await prove(
                    targets.opened, decisions=decisions, seed=seed, folder=folder, tell=tell
                )
            click.echo(table(outcome.tallies.values()))
            click.echo(f"\nseed {seed}: {time.monotonic() - began:.0f} s")
            for fault in outcome.faults():
                click.echo(f"FAILED {fault}")
            for absent, reason in targets.absent.items():
                click.echo(f"NOT PROVEN {absent}: {reason}")
            for number, (mismatch, target) in enumerate(_worth_shrinking(outcome, targets.opened)):
                click.echo(
                    f"shrinking: {mismatch.target} on {mismatch.case.universe} rows, {mismatch.found}",
                    err=True,
                )
                case = await shrink(mismatch.case, target, folder=folder / f"shrink{number}")
                path = write_counterexample(replace(mismatch, case=case), fixtures)
                click.echo(
                    f"\n{path}: {mismatch.target} is wrong on row {dict(case.rows)} for "
                    f"{dict(case.principal)}"
                )
                click.echo(case.policy.module("regate.proof.p"))
    return 1 if outcome.faults() else 0


def _worth_shrinking(outcome: Outcome, targets: Sequence[Target]) -> list[tuple[Mismatch, Target]]:
    """Return a few mismatches, of as many targets as can be; a target that is wrong as the interpreter
    is has no fault of its own.
    """
    firsts: dict[tuple[str, str], Mismatch] = {}
    found = sorted(outcome.mismatches, key=lambda one: (one.target != "interpreter", one.found))
    interpreted = {one.found for one in found if one.target == "interpreter"}
    for mismatch in found:
        if mismatch.target == "interpreter" or mismatch.found not in interpreted:
            firsts.setdefault((mismatch.target, mismatch.case.universe), mismatch)
    by_name = {(target.name, target.universe): target for target in targets}
    return [(mismatch, by_name[mismatch.target, mismatch.case.universe]) for mismatch in firsts.values()][
        :_SHRUNK
    ]


@contextmanager
def _bar(decisions: int) -> Iterator[Callable[[Outcome], None]]:
    """Yield what draws how far the slowest target is, on standard error."""
    with click.progressbar(length=decisions, label="decisions per target", file=sys.stderr) as bar:
        steps = itertools.count(1)
        due = next(steps)

        def tell(outcome: Outcome) -> None:
            nonlocal due
            bar.update(max(0, min(outcome.decisions, decisions) - bar.pos))
            while not sys.stderr.isatty() and bar.pct * 10 >= due:  # a log has no use for a bar
                click.echo(f"  {due * 10} %", err=True)
                due = next(steps)

        yield tell


@click.command()
@click.option(
    "--decisions",
    default=100_000,
    show_default=True,
    type=click.IntRange(1),
    help="Compare at least so many on each target.",
)
@click.option(
    "--seed",
    type=int,
    help="Ask the same questions as an earlier run; without it a new seed is drawn and printed.",
)
@click.option(
    "--fixtures",
    default=_FIXTURES,
    show_default=True,
    type=click.Path(path_type=Path),
    help="Where counterexamples are kept.",
)
def main(decisions: int, seed: int | None, fixtures: Path) -> None:
    """Compare random policies as filters with OPA's full evaluation of each row; exit 1 and keep a
    small example where they differ.
    """
    seed = secrets.randbelow(2**32) if seed is None else seed
    click.echo(f"seed {seed} (repeat with SEED={seed})")
    sys.exit(asyncio.run(_run(decisions, seed, fixtures)))


if __name__ == "__main__":
    main()
