"""The kinds of store, as pure functions: can this kind apply a filter plan exactly? Calls the adapters' own
renderers, and does no IO.

Not the stores themselves. A new kind of store is added to `renderers_for`, and so appears in every report.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from regate_orchestrator.errors import FilterNotExpressible
from regate_orchestrator.filters.expression import Atom, FilterPlan, Nothing, atoms_of, expression_of, plan_of
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.values import StoreId

Renderer: TypeAlias = Callable[[FilterPlan], object]
"""Renders the plan for one kind of store. Must raise `FilterNotExpressible` for what that kind cannot
apply exactly.
"""

ROWS_IN_SQL: Final = "sqlite"
"""Listings of rows are filtered in the state store's SQL, whatever the vector store is."""

KINDS: Final = frozenset({"interpreter", "memory", "chroma", "pgvector", ROWS_IN_SQL})
"""All kinds of store that are known here."""


def renderers_for(unknown: str, schema: RowSchema) -> Mapping[str, Renderer]:
    """Return what applies plans on this kind of row, by the kind of store. Raises `ConfigurationError`
    for fields that one cannot hold.
    """
    found: dict[str, Renderer] = {"interpreter": expression_of, ROWS_IN_SQL: _sqlite(unknown, schema)}
    if unknown == "chunk":
        found |= {"memory": expression_of, "chroma": _chroma(schema)}
        if (
            importlib.util.find_spec("psycopg") is not None
        ):  # an extra, which only those who deploy PostgreSQL install
            found["pgvector"] = _pgvector(schema)
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


def _chroma(schema: RowSchema) -> Renderer:
    from regate_adapters.vector.chroma.filter import render
    from regate_adapters.vector.chroma.layout import ChromaLayout

    layout = ChromaLayout.of(schema).at(StoreId("vs_sample"))
    return lambda plan: render(plan, layout)


def _pgvector(schema: RowSchema) -> Renderer:
    from regate_adapters.vector.pgvector.filter import Parameters, render

    return lambda plan: render(expression_of(plan), schema, Parameters())


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
