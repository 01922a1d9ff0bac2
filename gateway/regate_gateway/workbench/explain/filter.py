"""A filter plan shown to people: as a formula, and as each kind of store is asked it. Shows it and nothing
more; no store is opened.

The renderers are the stores' own, so what is shown is what is sent, except that Chroma's keys stand without
the prefix of their store.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, assert_never

from regate_adapters.vector.registry import KINDS
from regate_orchestrator.authz.plan_records import describe
from regate_orchestrator.errors import FilterNotExpressible
from regate_orchestrator.filters.expression import (
    And,
    Compare,
    CompareFields,
    Constant,
    Defined,
    Expression,
    Field,
    FilterPlan,
    In,
    NonEmpty,
    Not,
    Or,
    Ordered,
    Overlaps,
    Text,
    Truthy,
    expression_of,
    narrow,
)
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.values import JsonObject

_SIGNS: Final = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


@dataclass(frozen=True, slots=True)
class ShownFilter:
    """The policy's part of the filter, and what each kind of store is asked: that part and the guard,
    which no policy can remove.
    """

    plan: JsonObject
    formula: str
    guard: str
    stores: Mapping[str, Mapping[str, Any]]


def show_filter(plan: FilterPlan, *, tenant: str, schema: RowSchema) -> ShownFilter:
    """Return the plan of a chunk search as people read it. A store that cannot express it is shown
    with its reason.
    """
    guard = Compare("eq", ("tenant",), tenant)
    guarded = narrow(plan, guard)
    return ShownFilter(
        describe(plan),
        spell(expression_of(plan)),
        spell(guard),
        {"chroma": _chroma(guarded, schema), "sql": _sql(guarded)},
    )


def spell(expression: Expression) -> str:
    """Return the expression as a formula on one line."""
    match expression:
        case Constant(holds):
            return "everything" if holds else "nothing"
        case And(parts):
            return " and ".join(map(_inside, parts))
        case Or(parts):
            return " or ".join(map(_inside, parts))
        case Not(part):
            return f"not {_inside(part)}"
        case Compare(operator, field, value) | Ordered(operator, field, value):
            return f"{_dotted(field)} {_SIGNS[operator]} {json.dumps(value, ensure_ascii=False)}"
        case CompareFields(operator, left, right):
            return f"{_dotted(left)} {_SIGNS[operator]} {_dotted(right)}"
        case In(field, values):
            return f"{_dotted(field)} in {json.dumps(list(values), ensure_ascii=False)}"
        case Overlaps(field, values):
            return f"{_dotted(field)} overlaps {json.dumps(list(values), ensure_ascii=False)}"
        case Text(operator, field, known):
            return f"{operator}({_dotted(field)}, {json.dumps(known, ensure_ascii=False)})"
        case Truthy(field):
            return f"{_dotted(field)} is truthy"
        case Defined(field):
            return f"{_dotted(field)} is present"
        case NonEmpty(field):
            return f"{_dotted(field)} is not empty"
        case _:
            assert_never(expression)


def _inside(part: Expression) -> str:
    return f"({spell(part)})" if isinstance(part, And | Or) else spell(part)


def _dotted(field: Field) -> str:
    return ".".join(field)


def _chroma(plan: FilterPlan, schema: RowSchema) -> Mapping[str, Any]:
    try:
        where = KINDS["chroma"].renderer(schema)(plan)
    except FilterNotExpressible as error:
        return {"refused": error.detail}
    return (
        {"where": where}
        if where is not None
        else {"where": None, "note": "selects nothing, so the store is not asked"}
    )


def _sql(plan: FilterPlan) -> Mapping[str, Any]:
    """Return the condition of listings of a store's files (SQLite), where the same plan is applied to
    the stamp of each.
    """
    from sqlalchemy.dialects import sqlite

    from regate_adapters.state.filters.row_filter import RowShape, render
    from regate_adapters.state.filters.sqlite_json import SqliteJson
    from regate_adapters.state.tables import attachments

    shape = RowShape(
        texts={"tenant": attachments.c.tenant, "owner": attachments.c.owner},
        numbers={},
        document=attachments.c.stamp,
    )
    try:
        condition = render(expression_of(plan), shape, SqliteJson())
        compiled = condition.compile(
            dialect=sqlite.dialect(paramstyle="named"), compile_kwargs={"render_postcompile": True}
        )
    except FilterNotExpressible as error:
        return {"refused": error.detail}
    return {"where": " ".join(str(compiled).split()), "parameters": dict(compiled.params)}
