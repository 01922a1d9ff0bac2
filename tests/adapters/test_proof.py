"""The proof by trial is run here with a few thousand decisions on every target; and it can fail,
shrink what it found, and replay it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
from tests.patience import wait_patiently

from regate_adapters.testing.proof.__main__ import prove, random_cases
from regate_adapters.testing.proof.oracle import UNIVERSES, Case, NotLoaded, UniverseName, running_oracle
from regate_adapters.testing.proof.shrink import (
    Mismatch,
    read_counterexample,
    replay,
    shrink,
    write_counterexample,
)
from regate_adapters.testing.proof.tally import Tally, reason_of, table
from regate_adapters.testing.proof.targets import InterpreterTarget, Targets, open_targets
from regate_adapters.testing.proof.text import RandomPolicy, Rule
from regate_adapters.vector.registry import KINDS
from regate_orchestrator.errors import FilterNotExpressible
from regate_orchestrator.filters.expression import (
    And,
    Compare,
    Expression,
    FilterPlan,
    Not,
    Or,
    expression_of,
    plan_of,
)

wait_patiently()

SEED: Final = 20_261_123
DECISIONS: Final = 4_000
COUNTEREXAMPLES: Final = Path(__file__).parents[1] / "fixtures" / "counterexamples"
PRINCIPAL: Final = {"id": "ann", "tenant": "acme", "teams": ["hr"], "clearance": 1}


class CarelessTarget(InterpreterTarget):
    """Reads `!=` as the complement of `==`, as stores do: a field that is missing is then unequal to
    everything.
    """

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
    async with open_targets(folder, servers=("postgres",)) as opened:
        yield opened


async def test_every_target_finds_exactly_what_full_evaluation_admits(
    targets: Targets, tmp_path: Path
) -> None:
    outcome = await prove(targets.opened, decisions=DECISIONS, seed=SEED, folder=tmp_path)
    print(table(outcome.tallies.values()))

    proven = {name for _, name in outcome.tallies}
    assert proven >= {"interpreter", "sqlite", "postgres", "memory", "chroma", "pgvector"}, targets.absent
    assert proven | set(targets.absent) == {"interpreter", "sqlite", "postgres", *KINDS} - {"chroma_server"}
    assert outcome.decisions >= DECISIONS
    assert outcome.faults() == []


async def test_a_wrong_target_is_found_and_its_counterexample_is_small_kept_and_replayed(
    tmp_path: Path,
) -> None:
    careless, right = CarelessTarget("typed"), InterpreterTarget("typed")
    outcome = await prove([careless, right], decisions=1, seed=SEED, folder=tmp_path)
    assert outcome.faults()[0].startswith("careless on typed rows: ")
    assert {mismatch.target for mismatch in outcome.mismatches} == {"careless"}

    found = min(outcome.mismatches, key=lambda mismatch: mismatch.found)
    case = await shrink(found.case, careless, folder=tmp_path / "shrink")
    kept = read_counterexample(
        write_counterexample(Mismatch("careless", case, found.found), tmp_path / "kept")
    )

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
        tally.compared(permitted=permitted, rows=10, wrong=0, wider=False)

    assert tally.faults() == ["any on typed rows: degenerate, only 1 of 5 plans permit some rows and not all"]


async def test_an_evaluation_that_ends_in_an_error_denies_the_row_that_it_befalls_and_no_other(
    tmp_path: Path,
) -> None:
    rules = (Rule("allow", ("input.chunk.hold",)), Rule("allow := false", ("input.chunk.level == 1",)))
    failing = RandomPolicy(
        modern=False, rules=(Rule("allow", ("input.chunk.hold", 'startswith(input.chunk.owner, "a")')),)
    )
    rows = {"both": {"hold": True, "level": 1, "owner": "ann"}, "one": {"hold": True, "level": 2, "owner": 7}}
    async with running_oracle(
        {"p": RandomPolicy(modern=False, rules=rules), "q": failing}, folder=tmp_path / "p"
    ) as oracle:
        admitted = [
            await oracle.admitted(name, Case("dirty", failing, PRINCIPAL, rows)) for name in ("p", "q")
        ]

    assert admitted == [{"one"}, {"both"}]


# ---------------------------------------------------------------- rules beyond plain ones

MEMBERS: Final = {
    "a function": r"m\d+\(x\) := ",
    "a function with a default": r"default m\d+\(_\) := ",
    "a function of literals": r'm\d+\("ann"\) := ',
    "a partial object": r"m\d+\[team\] := ",
    "a partial set": r"m\d+ contains team",
    "a complete rule of a value": r"m\d+ := 1 if",
    "a value out of a list": r"m\d+ := team if",
    "a rule that is false": r"m\d+ := false if",
    "a default": r"default m\d+ := ",
    "an else": r"\} else := ",
    "with": r" with input\.principal\.clearance as ",
    "an object made in place": r'\{"a": team \| some team in',
    "an import of the row": r"import input\.chunk as row",
    "a library": r"shared\.m\d+",
    "a rule of the library by another head": r"^lib\.m\d+ := ",
    "a whole path": r"data\.regate\.p\.m\d+",
    "a package": r"data\.regate\.p\.lib(?:$|\[)",
    "a builtin that may fail": r"to_number\(|abs\(input\.principal\.attrs",
    "a builtin made safe": r"is_string\(input\.principal\.attrs\.region\)",
    "a rule with the name of a builtin": r"^startswith\(",
    "a name that is shadowed": r"some (m\d+) in input\.principal\.teams\]",
    "a negated rule of these": r"not m\d+",
}


@pytest.mark.parametrize("universe", list(UNIVERSES))
def test_the_grammar_writes_functions_objects_values_and_contradictions(universe: UniverseName) -> None:
    cases = [
        case for batch in range(8) for _, case in random_cases(UNIVERSES[universe], f"members/{batch}", {})
    ]
    text = "\n".join(text for case in cases for text in case.policy.modules("regate.p").values())

    assert [name for name, form in MEMBERS.items() if re.search(form, text, re.MULTILINE) is None] == []


async def test_without_the_load_check_filters_are_wider_than_rules_and_it_refuses_each_of_them(
    tmp_path: Path,
) -> None:
    targets = [InterpreterTarget(universe) for universe in UNIVERSES]
    outcome = await prove(targets, decisions=1, seed=SEED, folder=tmp_path, checked=False)
    wrong = {f"w{number}": mismatch.case for number, mismatch in enumerate(outcome.mismatches)}
    refused = []
    async with running_oracle(
        {name: case.policy for name, case in wrong.items()}, folder=tmp_path / "again"
    ) as oracle:
        for name, case in wrong.items():
            try:
                await oracle.plan(name, case)
            except NotLoaded as refusal:
                refused.append((name, refusal.codes))

    assert sum(tally.wider for tally in outcome.tallies.values()) >= 5
    assert [fault for fault in outcome.faults() if fault.endswith("filters are wider than the rule")]
    assert [name for name, _ in refused] == list(wrong)


def test_a_filter_that_is_wider_than_its_rule_is_a_fault_by_itself() -> None:
    tally = Tally("any", "typed", plans=1)
    tally.compared(permitted=5, rows=10, wrong=1, wider=True)

    assert tally.faults() == [
        "any on typed rows: 1 decisions differ from full evaluation",
        "any on typed rows: 1 filters are wider than the rule",
    ]


@pytest.mark.parametrize("universe", list(UNIVERSES))
def test_the_same_seed_asks_the_same_questions_and_another_asks_others(universe: UniverseName) -> None:
    first, again, other = (
        list(random_cases(UNIVERSES[universe], seed, {})) for seed in ("1/0", "1/0", "2/0")
    )

    assert first == again
    assert not {case.policy for _, case in first} & {case.policy for _, case in other}


async def test_what_is_left_of_a_policy_when_it_is_cut_is_valid(tmp_path: Path) -> None:
    policies = [
        case.policy
        for universe in UNIVERSES.values()
        for _, case in list(random_cases(universe, "cuts", {}))[:9]
    ]
    cuts = {
        f"p{number}_{cut}": smaller
        for number, policy in enumerate(policies)
        for cut, smaller in enumerate(policy.smaller())
    }
    assert len(cuts) > 2 * len(policies)

    rows = {"row": {"tenant": "acme", "owner": "ann", "level": 1, "teams": ["hr"], "hold": True}}
    async with running_oracle(cuts, folder=tmp_path / "cuts") as oracle:
        admitted = [
            await oracle.admitted(name, Case("typed", policy, PRINCIPAL, rows))
            for name, policy in cuts.items()
        ]

    assert {frozenset(), frozenset(rows)} == set(admitted)


def test_reasons_are_counted_without_the_names_of_one_policy() -> None:
    assert reason_of("tenant lt region: both may be lists") == reason_of("owner ge score: both may be lists")
    assert reason_of("data.regate.proof.p1.two is recursive") == reason_of(
        "data.regate.proof.p2.one is recursive"
    )
