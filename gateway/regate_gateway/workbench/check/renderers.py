"""The kinds of store, as pure functions: can this kind apply a filter plan exactly? Calls the adapters' own
renderers, and does no IO.

Not the stores themselves. A kind of vector engine that is registered appears in every report.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from regate_adapters.vector.kind import Renderer
from regate_adapters.vector.registry import KINDS as ENGINES
from regate_orchestrator.errors import FilterNotExpressible
from regate_orchestrator.filters.expression import Atom, FilterPlan, Nothing, atoms_of, expression_of, plan_of
from regate_orchestrator.filters.schema import RowSchema

ROWS_IN_SQL: Final = "sqlite"
"""Listings of rows are filtered in the state store's SQL, whatever the vector store is."""

KINDS: Final = frozenset({"interpreter", ROWS_IN_SQL, *ENGINES})
"""All kinds of store that are known here."""


def renderers_for(unknown: str, schema: RowSchema) -> Mapping[str, Renderer]:
    """Return what applies plans on this kind of row, by the kind of store. Raises `ConfigurationError`
    for fields that one cannot hold.
    """
    found: dict[str, Renderer] = {"interpreter": expression_of, ROWS_IN_SQL: _sqlite(unknown, schema)}
    if unknown == "chunk":
        found |= {name: kind.renderer(schema) for name, kind in ENGINES.items() if kind.is_installed}
    return found


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a kind of store cannot apply a plan, and the one test in it that it cannot make; None where
    it is the whole that is too much.
    """

    reason: str
    test: Atom | None


def refusal(renderer: Renderer, plan: FilterPlan) -> Refusal | None:
    """Return why this kind of store cannot apply the plan; None when it applies it exactly."""
    if isinstance(plan, Nothing):
        return None  # no store is asked at all
    if (reason := _reason(renderer, plan)) is None:
        return None
    return Refusal(
        reason,
        next(
            (test for test in atoms_of(expression_of(plan)) if _reason(renderer, plan_of(test)) is not None),
            None,
        ),
    )


def _reason(renderer: Renderer, plan: FilterPlan) -> str | None:
    try:
        renderer(plan)
    except FilterNotExpressible as error:
        return error.detail
    return None


def _sqlite(unknown: str, schema: RowSchema) -> Renderer:
    from sqlalchemy import literal

    from regate_adapters.state.filters.row_filter import RowShape, render
    from regate_adapters.state.filters.sqlite_json import SqliteJson
    from regate_adapters.state.tables import attachments, files, prompts, responses, vector_stores

    # Chunks are found in the state store too: the rule decides which attachments a listing shows, by the
    # stamp their chunks carry.
    table = {
        "chunk": attachments,
        "store": vector_stores,
        "file": files,
        "prompt": prompts,
        "item": responses,
    }.get(unknown)
    columns = {} if table is None else dict(table.c.items())
    texts = {
        name: columns[name]
        for name, spec in schema.fields.items()
        if spec.type == "string" and name in columns
    }
    shape = RowShape(texts=texts, numbers={}, document=columns.get("stamp", literal("{}")))
    return lambda plan: render(expression_of(plan), shape, SqliteJson())
