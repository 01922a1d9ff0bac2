"""The table of decision points (`authz/points.py`), held against the policies, their schemas, the
documentation, and what the code asks.
"""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path
from typing import Final

import pytest

from regate_orchestrator.authz.batches import KINDS, Admitted, Batch
from regate_orchestrator.authz.points import (
    BESIDE_POINTS,
    CONTRACTS,
    FILTERED,
    ROWS,
    Point,
    asked_rules,
    custom_rules,
)

ROOT: Final = Path(__file__).parents[3]
ALL: Final = pytest.mark.parametrize("point", Point, ids=lambda point: point.name)
PACKAGES: Final = sorted({point.package for point in Point})


def documented() -> dict[str, list[str]]:
    """The cells of the table of decision points, by package."""
    text = (ROOT / "docs/decision-points.md").read_text(encoding="utf-8")
    table = text.partition("\n## All decision points")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in table.splitlines()
        if line.startswith("| `regate.")
    ]
    return {row[0].strip("` |").replace(".", "/"): row for row in rows if len(row) == 4}


def actions_in(cell: str) -> set[str]:
    """The actions of a cell, in which `.read` stands for the `store.read` of a `store.create` before it."""
    found: set[str] = set()
    prefix = ""
    for name in re.findall(r"`([a-z_]*\.[a-z_]+)`", cell):
        prefix = name.partition(".")[0] or prefix
        found.add(f"{prefix}.{name.partition('.')[2]}")
    return found


def of_package(package: str) -> list[Point]:
    return [point for point in Point if point.package == package]


def test_every_point_has_a_contract_and_every_action_one_point() -> None:
    actions = [action for point in Point for action in point.contract.actions]

    assert set(CONTRACTS) == set(Point)
    assert len(actions) == len(set(actions)) > 35


@ALL
def test_point_is_a_rule_of_a_package(point: Point) -> None:
    sources = [
        path.read_text() for path in (ROOT / "rego" / point.package.removeprefix("regate/")).glob("*.rego")
    ]
    package = point.package.replace("/", ".")

    assert any(re.search(rf"^package {re.escape(package)}$", text, re.MULTILINE) for text in sources)
    for rule in point.rules:
        name = rule.rpartition("/")[2]
        assert any(re.search(rf"^(default )?{name}\b", text, re.MULTILINE) for text in sources), rule


@ALL
def test_what_a_point_compares_and_stamps_has_a_schema(point: Point) -> None:
    contract = point.contract
    rows = {contract.row} if contract.filtered else set()

    for row in rows | ({contract.stamps} if contract.stamps else set()):
        assert (ROOT / f"rego/schemas/{row}.json").is_file()
    assert contract.filtered is None or contract.filtered in contract.actions
    assert contract.filtered is None or contract.filtered in contract.batched.values()
    assert set(contract.batched.values()) <= set(contract.actions)


def test_every_schema_of_a_row_is_of_a_filter() -> None:
    assert {path.stem for path in (ROOT / "rego/schemas").glob("*.json")} == set(ROWS)
    assert len(FILTERED) == len(ROWS)


@pytest.mark.parametrize("package", PACKAGES)
def test_package_is_documented_with_its_actions_and_rules(package: str) -> None:
    _, actions, _, rules = documented()[package]
    stated = {action for point in of_package(package) for action in point.contract.actions}
    asked = {rule.rpartition("/")[2] for point in of_package(package) for rule in point.rules}

    assert actions_in(actions) == stated
    assert set(re.findall(r"`([a-z_]+)`", rules)) == asked


def test_documentation_has_no_other_package() -> None:
    assert set(documented()) == {*PACKAGES, *(f"regate/{package}" for package in BESIDE_POINTS)}


def test_kinds_of_a_batch_are_those_of_the_points() -> None:
    names = [kind.name for kind in KINDS]
    stated = {name for point in Point for name in point.contract.batched}

    assert set(names) == stated
    assert names == [member.name for member in fields(Batch)]
    assert names == [member.name for member in fields(Admitted) if member.name != "revision"]
    assert [kind.name for kind in KINDS if kind.is_list] == [
        "listed_stores",
        "listed_files",
        "listed_prompts",
        "listed_responses",
    ]


def test_actions_that_the_code_asks_are_those_of_their_point() -> None:
    asked = set(questions())

    assert len(asked) > 15
    assert {
        (point, action) for point, action in asked if action not in Point[point].contract.actions
    } == set()


def questions() -> list[tuple[str, str]]:
    """The points and actions that stand in the code beside each other."""
    found = []
    for folder in ("orchestrator", "gateway", "adapters"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                match node:
                    case (
                        ast.Call(
                            args=[
                                *_,
                                ast.Attribute(value=ast.Name(id="Point"), attr=point),
                                ast.Constant(value=str() as action),
                            ]
                        )
                        | ast.Call(
                            args=[
                                ast.Attribute(value=ast.Name(id="Point"), attr=point),
                                ast.Constant(value=str() as action),
                                *_,
                            ]
                        )
                    ):
                        found.append((point, action))
                    case _:
                        pass
    return found


def test_rules_of_an_overlay_are_promised() -> None:
    text = (ROOT / "docs/extending-policies.md").read_text(encoding="utf-8")
    table = text[text.index("| `regate.custom.") :].partition("\n\n")[0]
    promised: set[str] = set()
    packages: list[str] = []
    for cells in (line.split(" | ") for line in table.splitlines()):
        packages = re.findall(r"`(?:regate\.custom)?\.([a-z]+)`", cells[0]) or packages  # "the same" as above
        promised |= {
            f"{package}/{rule}" for package in packages for rule in re.findall(r"`([a-z_]+)`", cells[1])
        }

    assert promised == custom_rules()


def test_each_rule_is_asked_once() -> None:
    assert len(asked_rules()) == len(set(asked_rules())) > 40
