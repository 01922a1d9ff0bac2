"""Conditions on marks as LanceDB's SQL: golden, and as LanceDB itself reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from regate_adapters.vector.lancedb.filter import DEEPEST, MOST_CONDITIONS, tenant_key, where_clause
from regate_adapters.vector.marked.engine import MarkedRow
from regate_adapters.vector.marked.filter import USUAL
from regate_adapters.vector.marked.tree import All, Has, Lacks, Some, Tree, measured
from regate_orchestrator.values import StoreId

A, B, C = Has(("a",)), Lacks(("b", "c")), Has(("d",))
IS_A = "array_has_any(marks, ['a'])"
IS_B = "NOT array_has_any(marks, ['b', 'c'])"
IS_C = "array_has_any(marks, ['d'])"
ACME = "tenant = '" + tenant_key("acme") + "'"


@pytest.mark.parametrize(
    ("tree", "tenant", "clause"),
    [
        (True, None, None),
        (True, "acme", ACME),
        (False, None, "false"),
        (A, None, IS_A),
        (A, "acme", f"{ACME} AND ({IS_A})"),
        (B, None, IS_B),
        (All((A, B)), None, f"{IS_A} AND {IS_B}"),
        (Some((A, B)), None, f"{IS_A} OR {IS_B}"),
        (Some((A, B)), "acme", f"{ACME} AND ({IS_A} OR {IS_B})"),
        (All((C, Some((A, B)))), None, f"{IS_C} AND ({IS_A} OR {IS_B})"),
        (Some((C, All((A, B)))), None, f"{IS_C} OR {IS_A} AND {IS_B}"),
        (
            Has(("o'neil", "level/7ff", "a=s:#0")),
            None,
            "array_has_any(marks, ['o''neil', 'level/7ff', 'a=s:#0'])",
        ),
    ],
)
def test_condition(tree: Tree, tenant: str | None, clause: str | None) -> None:
    assert where_clause(tree, tenant=tenant) == clause


def test_tenants_of_any_spelling_have_keys_of_their_own() -> None:
    tenants = ["", "acme", "ACME", "a\x00b", "o'neil", "\ud800", "\u00e9", "e\u0301", "x" * 10_000]
    keys = {tenant_key(tenant) for tenant in tenants}

    assert len(keys) == len(tenants)
    assert all(key.isalnum() and len(key) == 32 for key in keys)


def deep(levels: int) -> Tree:
    """Return a tree of so many levels, the deepest part of each last, where a parser bears the least."""
    tree: Tree = A
    for level in range(levels, 1, -1):
        tree = (Some if level % 2 == 0 else All)((Has((f"m{level}",)), tree))
    return tree


@pytest.mark.parametrize(
    "tree",
    [
        deep(DEEPEST),
        deep(DEEPEST - 1),
        All(tuple(Has((f"m{number}", "a")) for number in range(MOST_CONDITIONS))),
        Some(tuple(All((A, Lacks((f"n{number}",)))) for number in range(MOST_CONDITIONS // 2))),
        Has(("a", *map(str, range(USUAL.most_marks - 1)))),
    ],
    ids=["deep", "less deep", "wide", "wide and deep", "long"],
)
async def test_the_largest_conditions_are_read_as_they_are_meant(tree: Tree, tmp_path: Path) -> None:
    pytest.importorskip("lancedb", reason="LanceDB is not installed: pip install 'regate[lancedb]'")
    from regate_adapters.vector.lancedb.engine import LanceEngine

    store, levels = StoreId("vs_1"), [f"m{level}" for level in range(DEEPEST + 1)]
    rows = [
        MarkedRow("id", "acme", ("a", *levels), "[]", (1, 0)),
        MarkedRow("other", "acme", ("other",), "[]", (1, 0)),
    ]
    assert measured(tree)[1] <= DEEPEST
    async with LanceEngine(tmp_path, timeout_s=120) as engine:
        await engine.make(store, 2)
        await engine.put(store, rows)
        (found,) = await engine.nearest(store, (1, 0), tree, tenant="acme", limit=9)

    assert found.id == "id"
