"""Conditions on marks as Oracle's SQL: golden. What they find is in `test_oracle.py`."""

from __future__ import annotations

import re

import pytest

from regate_adapters.vector.marked.tree import All, Has, Lacks, Some, Tree
from regate_adapters.vector.oracle.filter import Binds, key_of, reach_of, row_key_of, where_clause

ROW = "EXISTS (SELECT 1 FROM regate_marks m WHERE m.store_key = c.store_key AND m.row_key = c.row_key AND "
A, B, C = Has(("a",)), Lacks(("b", "c")), Has(("a", "d"))
IS_A, IS_B, IS_C = (
    f"{ROW}(m.mark IN (:m1)))",
    f"NOT {ROW}(m.mark IN (:m2, :m3)))",
    f"{ROW}(m.mark IN (:m1, :m4)))",
)


@pytest.mark.parametrize(
    ("tree", "condition", "marks"),
    [
        (A, IS_A, "a"),
        (All((A, B)), f"({IS_A}) AND ({IS_B})", "abc"),
        (Some((A, B)), f"({IS_A}) OR ({IS_B})", "abc"),
        (All((A, Some((B, C)))), f"({IS_A}) AND (({IS_B}) OR ({IS_C}))", "abcd"),
        (False, "1 = 0", ""),
    ],
)
def test_condition_binds_each_mark_once(tree: Tree, condition: str, marks: str) -> None:
    binds = Binds()
    clause = where_clause(tree, binds, store="vs_1", tenant="acme")

    assert clause == f"c.store_key = :b_store AND c.tenant_key = :b_tenant AND ({condition})"
    assert binds.values == {
        "b_store": key_of("vs_1"),
        "b_tenant": key_of("acme"),
        **{f"m{number}": mark for number, mark in enumerate(marks, start=1)},
    }


def test_no_condition_is_the_store_alone() -> None:
    assert where_clause(True, Binds(), store="vs_1") == "c.store_key = :b_store"


def test_a_long_list_is_several() -> None:
    clause = where_clause(Has(tuple(map(str, range(2_001)))), Binds(), store="vs_1")
    lists = re.findall(r"m\.mark IN \(([^)]*)\)", clause)

    assert [one.count(",") + 1 for one in lists] == [1_000, 1_000, 1]
    assert clause.count(") OR m.mark IN (") == 2


def test_no_value_stands_in_a_statement() -> None:
    clause = where_clause(Has(("x' OR '1'='1",)), Binds(), store="' --", tenant='"')

    assert not set("'\"-") & set(clause)


def test_keys_are_short_and_of_any_name() -> None:
    names = ["", "acme", "ACME", "a\x00b", "\ud800", "\u00e9", "e\u0301", "x" * 10_000]

    assert len({key_of(name) for name in names}) == len({row_key_of(name) for name in names}) == len(names)
    assert {len(key_of(name)) for name in names} == {30}
    assert {len(row_key_of(name)) for name in names} == {40}
    assert {len(reach_of("vs_1", tenant)) for tenant in (*names, None)} == {30, 61}
