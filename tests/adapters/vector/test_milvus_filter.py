"""Milvus's expressions as they are asked: golden, with nothing in them that a caller wrote."""

from __future__ import annotations

import pytest

from regate_adapters.testing.vector.suite import SCHEMA
from regate_adapters.vector.marked.tree import All, Has, Lacks, Some, Tree
from regate_adapters.vector.milvus.filter import key_of, render
from regate_adapters.vector.milvus.kind import Milvus
from regate_adapters.vector.milvus.layout import PIECE_BYTES, pieces_of
from regate_orchestrator.filters.expression import NEVER, And, Compare, Matching, Not, Overlaps, plan_of
from regate_orchestrator.values import StoreId

STORE = StoreId("vs_1")
OF_STORE = 'store == "e014f4301bdd8f883a5a2e31885329f7"'


@pytest.mark.parametrize(
    ("tree", "expression"),
    [
        (True, OF_STORE),
        (Has(("a", "b")), f'{OF_STORE} and array_contains_any(marks, ["a", "b"])'),
        (Lacks(("a", "b")), f'{OF_STORE} and (not array_contains_any(marks, ["a", "b"]))'),
        (
            All((Has(("a",)), Lacks(("c",)))),
            f'{OF_STORE} and array_contains_any(marks, ["a"]) and (not array_contains_any(marks, ["c"]))',
        ),
        (
            Some((Has(("a",)), All((Has(("c",)), Lacks(("d",)))))),
            (
                f'{OF_STORE} and (array_contains_any(marks, ["a"]) or (array_contains_any(marks, ["c"]) and '
                '(not array_contains_any(marks, ["d"]))))'
            ),
        ),
    ],
)
def test_the_filter_as_milvus_is_asked(tree: Tree, expression: str) -> None:
    assert render(tree, store=STORE) == expression


def test_a_tenant_is_asked_for_by_its_digest() -> None:
    tenant = '" or true'
    found = render(Has(("a",)), store=STORE, tenant=tenant)

    assert found == f'{OF_STORE} and tenant == "{key_of(tenant)}" and array_contains_any(marks, ["a"])'
    assert len({key_of(name) for name in ("", "a", "A", "a\x00", "\ud800", "e\u0301", "\u00e9")}) == 7
    assert all(letter in "0123456789abcdef" for letter in key_of(tenant))


@pytest.mark.parametrize("mark", ['a"', "a\\", "", "a b", "\u00e9", "a\n"])
def test_what_is_no_mark_is_in_no_expression(mark: str) -> None:
    with pytest.raises(ValueError, match="not a mark"):
        render(Has((mark,)), store=STORE)


def test_a_policy_as_milvus_is_asked() -> None:
    render_plan = Milvus().renderer(SCHEMA)
    parts = (
        Compare("eq", ("tenant",), "acme"),
        Overlaps(("teams",), ("hr",)),
        Not(Compare("eq", ("region",), "eu")),
    )
    found = str(render_plan(Matching(And(parts))))

    store, version, *further = found.split(" and ")
    assert (store, version[:38]) == (f'store == "{key_of("")}"', 'array_contains_any(marks, [".version=1')
    assert further == [
        'array_contains_any(marks, ["tenant=s:acme"])',
        'array_contains_any(marks, ["teams@s:hr"])',
        '(not array_contains_any(marks, ["region=s:eu"]))',
    ]
    assert render_plan(plan_of(NEVER)) is False


@pytest.mark.parametrize("length", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
def test_a_document_is_kept_in_pieces_that_fit(length: int) -> None:
    document = "x" * length
    pieces = pieces_of(document)

    assert ("".join(pieces), max(map(len, pieces)) <= PIECE_BYTES, len(pieces) >= 1) == (document, True, True)
