"""A mismatch made small, and kept: rows, rules, conditions and fields are taken away while target and oracle
still disagree.

What is left is written as JSON with everything that is needed to try it again, and is a regression test from
then on: `replay` says whether the two still disagree. The counterpart is `__main__.py`, which finds
mismatches.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from regate_adapters.testing.proof.oracle import Case, Oracle, running_oracle
from regate_adapters.testing.proof.rows import SCHEMA
from regate_adapters.testing.proof.targets import Target
from regate_adapters.testing.proof.text import as_json, from_json
from regate_orchestrator.errors import ConfigurationError, FilterNotExpressible

_MAX_ROUNDS: Final = 40


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A case on which a target and the oracle disagree. `found` says where it was found, for
    reproducing the run.
    """

    target: str
    case: Case
    found: str


async def differing(oracle: Oracle, name: str, case: Case, *, target: Target) -> frozenset[str]:
    """Return the rows on which the target disagrees with the oracle; none where the policy is refused.
    The case's rows are loaded.
    """
    await target.load(case.rows)
    try:
        actual = await target.matching(await oracle.plan(name, case))
    except FilterNotExpressible:
        return frozenset()
    return actual ^ await oracle.admitted(name, case)


async def shrink(case: Case, target: Target, *, folder: Path) -> Case:
    """Return a case, no larger, on which the target still disagrees with the oracle. The folder must
    not exist yet.
    """
    for number in range(_MAX_ROUNDS):
        smaller = await _first_that_differs(_smaller_policies(case), target, folder / f"policy{number}")
        if smaller is None:
            break
        case = smaller
    async with running_oracle({"p": case.policy}, folder=folder / "rows") as oracle:
        case = await _with_fewest_rows(oracle, case, target)
        for _ in range(_MAX_ROUNDS):
            plainer = await _first_plainer(oracle, case, target)
            if plainer is None:
                break
            case = plainer
    return case


def write_counterexample(mismatch: Mismatch, folder: Path) -> Path:
    """Write the mismatch where the replaying test reads it, under a name made of its content, and
    return the path.
    """
    case = mismatch.case
    content = {
        "target": mismatch.target,
        "found": mismatch.found,
        "universe": case.universe,
        "policy": as_json(case.policy),
        "principal": case.principal,
        "rows": case.rows,
        "modules": {name: text.splitlines() for name, text in case.policy.modules("regate.proof.p").items()},
    }
    text = json.dumps(content, indent=2, ensure_ascii=True) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{mismatch.target}-{case.universe}-{sha256(text.encode()).hexdigest()[:8]}.json"
    path.write_text(text, encoding="utf-8")
    return path


def read_counterexample(path: Path) -> Mismatch:
    """Return the mismatch that a file holds. Its `modules` are for readers, and not read."""
    content: Any = json.loads(path.read_text(encoding="utf-8"))
    case = Case(content["universe"], from_json(content["policy"]), content["principal"], content["rows"])
    return Mismatch(content["target"], case, content["found"])


async def replay(mismatches: Mapping[str, Mismatch], targets: Sequence[Target], *, folder: Path) -> list[str]:
    """Return which of the mismatches, by name, some target of their universe still shows. All targets
    try them all.
    """
    if not mismatches:
        return []
    names = {name: f"p{number}" for number, name in enumerate(mismatches)}
    still: list[str] = []
    async with running_oracle(
        {names[name]: mismatch.case.policy for name, mismatch in mismatches.items()}, folder=folder
    ) as oracle:
        for name, mismatch in mismatches.items():
            own = [target for target in targets if target.universe == mismatch.case.universe]
            still += [
                f"{name}: {target.name}"
                for target in own
                if await differing(oracle, names[name], mismatch.case, target=target)
            ]
    return still


# ---------------------------------------------------------------- smaller cases


async def _first_that_differs(cases: Sequence[Case], target: Target, folder: Path) -> Case | None:
    if not cases:
        return None
    names = [f"p{number}" for number in range(len(cases))]
    policies = {name: case.policy for name, case in zip(names, cases, strict=True)}
    try:
        async with running_oracle(policies, folder=folder) as oracle:
            for name, case in zip(names, cases, strict=True):
                if await differing(oracle, name, case, target=target):
                    return case
    except ConfigurationError:  # a cut that made no valid policy: what there is must do
        return None
    return None


async def _first_plainer(oracle: Oracle, case: Case, target: Target) -> Case | None:
    for plainer in _plainer_inputs(case):
        if await differing(oracle, "p", plainer, target=target):
            return plainer
    return None


async def _with_fewest_rows(oracle: Oracle, case: Case, target: Target) -> Case:
    for identifier in sorted(await differing(oracle, "p", case, target=target)):
        alone = replace(case, rows={identifier: case.rows[identifier]})
        if await differing(oracle, "p", alone, target=target):
            return alone
    return case  # the rows matter together


def _smaller_policies(case: Case) -> list[Case]:
    return [replace(case, policy=policy) for policy in case.policy.smaller()]


def _plainer_inputs(case: Case) -> Iterator[Case]:
    """Yield the case with one field of a row less, as far as the universe lets fields be missing, or
    with a plainer principal.
    """
    for identifier, row in case.rows.items():
        for name in row:
            spec = SCHEMA.fields.get(name)
            if case.universe == "dirty" or spec is None or not spec.required:
                rest = {key: value for key, value in row.items() if key != name}
                yield replace(case, rows={**case.rows, identifier: rest})
    for name, value in case.principal.items():
        if isinstance(value, list | dict) and value:
            yield replace(case, principal={**case.principal, name: type(value)()})
