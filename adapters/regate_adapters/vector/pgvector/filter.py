"""The filter algebra rendered for PostgreSQL: exactly what `meaning.holds` says of a stored chunk, or
`FilterNotExpressible`. No IO.

The canonical view is part of the rendering: a field that the schema does not declare, or that holds another
type than declared, is absent. JSON compares with JSON and text with text by code point, never one as the
other; each atom is two-valued, so NOT is the exact complement. Names and values are parameters without
exception. No cast here can fail on any row, since SQL promises no order of evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, assert_never

from psycopg import sql

from regate_adapters.vector.guard import TENANT
from regate_adapters.vector.pgvector.conditions import (
    FALSE,
    OPERATORS,
    RANKS,
    TRUE,
    Condition,
    Kind,
    Source,
    join,
    kind_of,
    negated,
    refusal,
    same_kind,
    two_valued,
)
from regate_adapters.vector.pgvector.values import stored_json, stored_text
from regate_orchestrator.errors import FilterNotExpressible
from regate_orchestrator.filters.evaluate import compares
from regate_orchestrator.filters.expression import (
    And,
    Compare,
    CompareFields,
    Constant,
    Defined,
    Expression,
    Field,
    In,
    NonEmpty,
    Not,
    Operator,
    Or,
    Ordered,
    Overlaps,
    Scalar,
    Text,
    TextOperator,
    Truthy,
)
from regate_orchestrator.filters.schema import FieldType, RowSchema

_SAMPLES: Final[dict[Kind, object]] = {
    "null": None,
    "boolean": False,
    "number": 0,
    "string": "",
    "array": [],
    "object": {},
}
_OF_TYPE: Final[dict[FieldType, Kind]] = {
    "string": "string",
    "number": "number",
    "boolean": "boolean",
    "list": "array",
}
_MAX_NODES: Final = 2_000
_MAX_VALUES: Final = 100_000
_DEEPEST: Final = 100


@dataclass(slots=True)
class Parameters:
    """The values of one statement, each under a name of its own."""

    values: dict[str, object] = field(default_factory=dict)

    def add(self, value: object) -> sql.Placeholder:
        """Return the placeholder that stands for the value."""
        name = f"v{len(self.values)}"
        self.values[name] = value
        return sql.Placeholder(name)


def render(expression: Expression, schema: RowSchema, parameters: Parameters) -> Condition:
    """Return the condition that holds for exactly the rows for which the expression holds, its values added
    to the parameters.

    Raises `FilterNotExpressible`, with what and why, for what has no exact form or is larger than PostgreSQL
    should be asked.
    """
    return _Renderer(schema, parameters).render(expression, depth=1)


class _Renderer:
    def __init__(self, schema: RowSchema, parameters: Parameters) -> None:
        self._schema = schema
        self._parameters = parameters
        self._nodes = 0
        self._values = 0

    def render(self, expression: Expression, *, depth: int) -> Condition:
        self._nodes += 1
        if depth > _DEEPEST or self._nodes > _MAX_NODES:
            raise FilterNotExpressible(
                f"PostgreSQL: the filter has more than {_DEEPEST} levels or {_MAX_NODES} conditions"
            )
        match expression:
            case Constant(holds):
                return TRUE if holds else FALSE
            case And(parts):
                return join("AND", [self.render(part, depth=depth + 1) for part in parts])
            case Or(parts):
                return join("OR", [self.render(part, depth=depth + 1) for part in parts])
            case Not(part):
                return negated(self.render(part, depth=depth + 1))
            case CompareFields():
                return two_valued(self._compare_fields(expression))
            case Compare("eq", ("tenant",), str() as tenant) if self._has_tenant_column():
                # A column that is never NULL needs no COALESCE, and without one its index serves.
                return sql.SQL("tenant = {}::text").format(self._text(tenant, (TENANT,)))
            case _:
                return two_valued(self._atom(expression))

    def _atom(
        self, atom: Compare | Ordered | In | Overlaps | Text | Truthy | Defined | NonEmpty
    ) -> Condition:
        source = self._source(atom.field)
        if source is None:
            return FALSE
        match atom:
            case Compare(operator, path, value):
                return self._compare(source, operator, value, path=path)
            case Ordered(operator, path, value):
                return self._same_type(source, operator, value, path=path)
            case In(path, values):
                return self._equals_one(source, values, path=path)
            case Overlaps(path, values):
                return self._overlaps(source, values, path=path)
            case Text(operator, path, value):
                return join(
                    "AND", [source.among(["string"]), self._text_matches(source, operator, value, path=path)]
                )
            case Truthy():
                is_true = sql.SQL("{} = {}::jsonb").format(source.json, self._json(True, atom.field))
                others = source.among(kind for kind in RANKS if kind != "boolean")
                return join("OR", [others, is_true if "boolean" in source.kinds else FALSE])
            case Defined():
                return source.among(RANKS)
            case NonEmpty():
                return join(
                    "OR", [self._non_empty(source, "array", []), self._non_empty(source, "object", {})]
                )
            case _:
                assert_never(atom)

    # ------------------------------------------------------------ atoms

    def _compare(self, source: Source, operator: Operator, value: Scalar, *, path: Field) -> Condition:
        """Return the comparison with the value's own type by value, and with every other by Rego's
        order of types.
        """
        own = kind_of(value)
        others = source.among(
            kind for kind in RANKS if kind != own and compares(operator, _SAMPLES[kind], value)
        )
        return join("OR", [others, self._same_type(source, operator, value, path=path)])

    def _same_type(self, source: Source, operator: Operator, value: Scalar, *, path: Field) -> Condition:
        """Return whether the field is of the value's own type and compares so with it."""
        own = kind_of(value)
        if own not in source.kinds:
            return FALSE
        same: Condition
        if own == "null":
            same = TRUE if operator in {"eq", "le", "ge"} else FALSE
        elif isinstance(value, str):
            same = sql.SQL('{} {} {}::text COLLATE "C"').format(
                source.text, OPERATORS[operator], self._text(value, path)
            )
        else:
            same = sql.SQL("{} {} {}::jsonb").format(
                source.json, OPERATORS[operator], self._json(value, path)
            )
        return join("AND", [source.among([own]), same])

    def _equals_one(self, source: Source, values: Sequence[Scalar], *, path: Field) -> Condition:
        texts = [self._checked_text(value, path) for value in values if isinstance(value, str)]
        others = [self._checked_json(value, path) for value in values if not isinstance(value, str)]
        parts = []
        if texts and "string" in source.kinds:
            known = sql.SQL('{} = ANY ({}::text[] COLLATE "C")').format(
                source.text, self._parameters.add(texts)
            )
            parts.append(join("AND", [source.among(["string"]), known]))
        if others:
            # JSON of two types is never equal, so the type needs no test of its own, except that it must be
            # one the field may have.
            known = sql.SQL("{} = ANY ({}::jsonb[])").format(source.json, self._parameters.add(others))
            parts.append(join("AND", [source.among(["null", "boolean", "number"]), known]))
        return join("OR", parts)

    def _overlaps(self, source: Source, values: Sequence[Scalar], *, path: Field) -> Condition:
        texts = [self._checked_text(value, path) for value in values if isinstance(value, str)]
        others = [self._checked_json(value, path) for value in values if not isinstance(value, str)]
        parts = []
        if texts and "array" in source.kinds:  # declared lists hold strings alone
            known = sql.SQL("{} ?| {}::text[]").format(source.json, self._parameters.add(texts))
            parts.append(join("AND", [source.among(["array"]), known]))
        if (
            texts or others
        ) and "object" in source.kinds:  # the attributes as a whole, which the table says are an object
            every = self._parameters.add(
                [*(stored_json(value) for value in values if isinstance(value, str)), *others]
            )
            each = sql.SQL("EXISTS (SELECT 1 FROM jsonb_each({}) AS e WHERE e.value = ANY ({}::jsonb[]))")
            parts.append(each.format(source.json, every))
        return join("OR", parts)

    def _text_matches(self, source: Source, operator: TextOperator, value: str, *, path: Field) -> Condition:
        known = self._text(value, path)
        match operator:
            case "startswith":
                return sql.SQL("starts_with({}, {}::text)").format(source.text, known)
            case "endswith":
                length = self._parameters.add(len(stored_text(value)))
                return sql.SQL('right({}, {}::integer) = {}::text COLLATE "C"').format(
                    source.text, length, known
                )
            case "contains":
                return sql.SQL('strpos({}, {}::text COLLATE "C") > 0').format(source.text, known)
            case _:
                assert_never(operator)

    def _non_empty(
        self, source: Source, kind: Literal["array", "object"], empty: list[str] | dict[str, str]
    ) -> Condition:
        if kind not in source.kinds:
            return FALSE
        differs = sql.SQL("{} <> {}::jsonb").format(source.json, self._parameters.add(stored_json(empty)))
        return join("AND", [source.among([kind]), differs])

    def _compare_fields(self, atom: CompareFields) -> Condition:
        left, right = self._source(atom.left), self._source(atom.right)
        if left is None or right is None:
            return FALSE
        options = []
        for one in left.kinds:
            for other in right.kinds:
                both = [left.among([one]), right.among([other])]
                if one == other:
                    options.append(join("AND", [*both, same_kind(atom, one, left, right)]))
                elif compares(atom.operator, _SAMPLES[one], _SAMPLES[other]):
                    options.append(join("AND", both))
        return join("OR", options)

    # ------------------------------------------------------------ fields and values

    def _source(self, path: Field) -> Source | None:
        """Return the field in SQL, or None when no row can have it."""
        match path:
            case ():
                raise FilterNotExpressible("PostgreSQL: a comparison of the whole row")
            case ("attributes",):
                column = sql.SQL("attributes")
                return Source(column, column, ("object",), required=True)
            case ("attributes", key):
                return _stored_at(
                    sql.SQL("attributes"),
                    self._text(key, path),
                    ("null", "boolean", "number", "string"),
                    required=False,
                )
            case (name,) if name in self._schema.fields:
                spec = self._schema.fields[name]
                return _stored_at(
                    sql.SQL("stamp"), self._text(name, path), (_OF_TYPE[spec.type],), required=spec.required
                )
            case _:
                return None

    def _has_tenant_column(self) -> bool:
        spec = self._schema.fields.get(TENANT)
        return spec is not None and spec.required and spec.type == "string"

    def _text(self, value: str, path: Field) -> sql.Placeholder:
        return self._parameters.add(self._checked_text(value, path))

    def _json(self, value: Scalar, path: Field) -> sql.Placeholder:
        return self._parameters.add(self._checked_json(value, path))

    def _checked_text(self, value: str, path: Field) -> str:
        self._count_value()
        try:
            return stored_text(value)
        except ValueError as error:
            raise refusal(str(error), path) from error

    def _checked_json(self, value: Scalar, path: Field) -> str:
        self._count_value()
        if isinstance(value, float) and not math.isfinite(value):
            raise refusal("NaN and the infinities are not numbers of JSON", path)
        return stored_json(value)

    def _count_value(self) -> None:
        self._values += 1
        if self._values > _MAX_VALUES:
            raise FilterNotExpressible(f"PostgreSQL: the filter lists more than {_MAX_VALUES} values")


def _stored_at(document: sql.SQL, key: sql.Placeholder, kinds: tuple[Kind, ...], *, required: bool) -> Source:
    # With a text on its right, `->` looks into objects alone; `#>` would take "0" for a position in a list.
    return Source(
        sql.SQL("({} -> {}::text)").format(document, key),
        sql.SQL('(({} ->> {}::text) COLLATE "C")').format(document, key),
        kinds,
        required=required,
    )
