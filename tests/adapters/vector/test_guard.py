"""Which tenant a filter confines its rows to."""

from __future__ import annotations

import pytest

from regate_adapters.vector.guard import tenant_of
from regate_orchestrator.filters.expression import And, Compare, Defined, Expression, Not, Or, Truthy


@pytest.mark.parametrize(
    ("expression", "tenant"),
    [
        (Compare("eq", ("tenant",), "acme"), "acme"),
        (And((Defined(("level",)), Compare("eq", ("tenant",), "acme"))), "acme"),
        (Or((Compare("eq", ("tenant",), "acme"), Defined(("level",)))), None),
        (And((Or((Compare("eq", ("tenant",), "acme"), Defined(("level",)))), Truthy(("public",)))), None),
        (Not(Compare("eq", ("tenant",), "acme")), None),
        (Compare("ne", ("tenant",), "acme"), None),
        (Compare("eq", ("owner",), "acme"), None),
        (Compare("eq", ("attributes", "tenant"), "acme"), None),
    ],
    ids=repr,
)
def test_the_tenant_of_a_plan_is_that_of_an_outermost_condition(
    expression: Expression, tenant: str | None
) -> None:
    assert tenant_of(expression) == tenant
