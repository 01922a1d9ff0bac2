"""The proof by trial is run here with a few thousand decisions on every target; and it can fail, shrink what it found, and replay it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from regate_adapters.testing.policy_grammar import RandomPolicy, Rule
from regate_adapters.testing.proof import prove, random_cases
from regate_adapters.testing.proof_oracle import UNIVERSES, Case, NoVerdict, UniverseName, running_oracle
from regate_adapters.testing.proof_shrink import Mismatch, read_counterexample, replay, shrink, write_counterexample
from regate_adapters.testing.proof_tally import Tally, reason_of, table
from regate_adapters.testing.proof_targets import InterpreterTarget, Targets, open_targets
from regate_orchestrator.errors import FilterNotExpressible
from regate_orchestrator.filters import And, Compare, Expression, FilterPlan, Not, Or, expression_of, plan_of

SEED: Final = 20_261_123
DECISIONS: Final = 4_000
COUNTEREXAMPLES: Final = Path(__file__).parents[1] / "fixtures" / "counterexamples"
PRINCIPAL: Final = {"id": "ann", "tenant": "acme", "teams": ["hr"], "clearance": 1}


class CarelessTarget(InterpreterTarget):
    """Reads `!=` as the complement of `==`, as stores do: a field that is missing is then unequal to everything."""

    name = "careless"

    async def matching(self, plan: FilterPlan) -> frozenset[str]:
        return await super().matching(plan_of(_careless(expression_of(plan))))


class MuteTarget(InterpreterTarget):
    """Refuses every plan, and so is never wrong."""

    name = "mute"

    async def matching(self, plan: FilterPlan) -> frozenset[str]:
        raise FilterNotExpressible("it never does")


def _careless(expression: Expression) -> Expression:
    match expression:
        case Compare("ne", field, value):
            return Not(Compare("eq", field, value))
        case And(parts):
            return And(tuple(map(_careless, parts)))
        case Or(parts):
            return Or(tuple(map(_careless, parts)))
        case Not(part):
            return Not(_careless(part))
        case _:
            return expression


@pytest.fixture
async def targets(tmp_path: Path) -> AsyncIterator[Targets]:
    folder = tmp_path / "targets"
    folder.mkdir()
    async with open_targets(folder) as opened:
        yield opened


async def test_every_target_finds_exactly_what_full_evaluation_admits(targets: Targets, tmp_path: Path) -> None:
    outcome = await prove(targets.opened, decisions=DECISIONS, seed=SEED, folder=tmp_path)
    print(table(outcome.tallies.values()))

    assert {name for _, name in outcome.tallies} == {"interpreter", "sqlite", "postgres", "memory", "chroma", "pgvector"}, targets.absent
    assert outcome.decisions >= DECISIONS
    assert outcome.faults() == []


async def test_a_wrong_target_is_found_and_its_counterexample_is_small_kept_and_replayed(tmp_path: Path) -> None:
    careless, right = CarelessTarget("typed"), InterpreterTarget("typed")
    outcome = await prove([careless, right], decisions=1, seed=SEED, folder=tmp_path)
    assert outcome.faults()[0].startswith("careless on typed rows: ")
    assert {mismatch.target for mismatch in outcome.mismatches} == {"careless"}

    found = min(outcome.mismatches, key=lambda mismatch: mismatch.found)
    case = await shrink(found.case, careless, folder=tmp_path / "shrink")
    kept = read_counterexample(write_counterexample(Mismatch("careless", case, found.found), tmp_path / "kept"))

    assert sum(len(rule.conditions) for rule in case.policy.rules) <= 2
    (row,) = case.rows.values()
    assert not {"region", "score", "labels"} & set(row)
    assert kept == Mismatch("careless", case, found.found)
    assert await replay({"kept": kept}, [careless, right], folder=tmp_path / "replay") == ["kept: careless"]


async def test_no_counterexample_of_the_past_is_one_again(targets: Targets, tmp_path: Path) -> None:
    kept = {path.name: read_counterexample(path) for path in sorted(COUNTEREXAMPLES.glob("*.json"))}

    assert await replay(kept, targets.opened, folder=tmp_path / "replay") == []


async def test_a_target_that_refuses_everything_is_no_proof(tmp_path: Path) -> None:
    outcome = await prove([MuteTarget("typed")], decisions=1, seed=SEED, folder=tmp_path)

    (fault,) = outcome.faults()
    assert fault.startswith("mute on typed rows: degenerate, only 0 of ")


def test_comparisons_in_which_all_or_nothing_is_permitted_are_no_proof() -> None:
    tally = Tally("any", "typed")
    for permitted in (0, 10, 0, 10, 5):
        tally.plans += 1
        tally.compared(permitted=permitted, rows=10, wrong=0)

    assert tally.faults() == ["any on typed rows: degenerate, only 1 of 5 plans permit some rows and not all"]


async def test_a_policy_without_a_verdict_is_no_agreement(tmp_path: Path) -> None:
    policy = RandomPolicy(modern=False, rules=(Rule("allow", ("input.chunk.hold",)), Rule("allow := false", ("input.chunk.level == 1",))))
    case = Case("typed", policy, PRINCIPAL, {"row": {"hold": True, "level": 1}})
    async with running_oracle({"p": policy}, folder=tmp_path / "p") as oracle:
        with pytest.raises(NoVerdict):
            await oracle.admitted("p", case)


@pytest.mark.parametrize("universe", list(UNIVERSES))
def test_the_same_seed_asks_the_same_questions_and_another_asks_others(universe: UniverseName) -> None:
    first, again, other = (list(random_cases(UNIVERSES[universe], seed, {})) for seed in ("1/0", "1/0", "2/0"))

    assert first == again
    assert not {case.policy for _, case in first} & {case.policy for _, case in other}


async def test_what_is_left_of_a_policy_when_it_is_cut_is_valid(tmp_path: Path) -> None:
    policies = [case.policy for universe in UNIVERSES.values() for _, case in list(random_cases(universe, "cuts", {}))[:6]]
    cuts = {f"p{number}_{cut}": smaller for number, policy in enumerate(policies) for cut, smaller in enumerate(policy.smaller())}
    assert len(cuts) > 2 * len(policies)

    rows = {"row": {"tenant": "acme", "owner": "ann", "level": 1, "teams": ["hr"], "hold": True}}
    async with running_oracle(cuts, folder=tmp_path / "cuts") as oracle:
        admitted = [await oracle.admitted(name, Case("typed", policy, PRINCIPAL, rows)) for name, policy in cuts.items()]

    assert {frozenset(), frozenset(rows)} == set(admitted)


def test_reasons_are_counted_without_the_names_of_one_policy() -> None:
    assert reason_of("tenant lt region: both may be lists") == reason_of("owner ge score: both may be lists")
    assert reason_of("data.regate.proof.p1.two is recursive") == reason_of("data.regate.proof.p2.one is recursive")
