"""The row filter means in SQL what the algebra means: compared with the interpreter over rows chosen
to break it, on a real database.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, insert, select
from tests.adapters.state.samples import ANN, file_of
from tests.postgres import Postgres

from regate_adapters.state.encoding import decode, encode, file_columns
from regate_adapters.state.filters.json_sql import JsonSql
from regate_adapters.state.filters.postgres_json import PostgresJson
from regate_adapters.state.filters.row_filter import RowShape, render
from regate_adapters.state.filters.sqlite_json import SqliteJson
from regate_adapters.state.tables import files, metadata
from regate_orchestrator.errors import FilterNotExpressible
from regate_orchestrator.filters.evaluate import holds
from regate_orchestrator.filters.expression import (
    And,
    Compare,
    CompareFields,
    Defined,
    Expression,
    In,
    NonEmpty,
    Not,
    Or,
    Ordered,
    Overlaps,
    Text,
    Truthy,
)
from regate_orchestrator.rows import FileRow

ABSENT: Final = object()
VALUES: Final[list[Any]] = [
    *(ABSENT, None, True, False, 0, 1, -1, 1.0, 0.0, -0.0, 0.1, 0.1 + 0.2, 0.3, 1e300, 5e-324),
    *(2**53, 2**53 + 1, float(2**53), -(2**53), 2**63 - 1, -(2**63) + 1, float(2**63)),
    *(
        "",
        "0",
        "1",
        "1.0",
        "a",
        "A",
        "b",
        "ab",
        "null",
        "true",
        "false",
        "[]",
        '"a"',
        "a%b",
        "a_b",
        "axb",
        "%",
        "_",
        "\\",
        "'",
        "$",
        "$.a",
    ),
    *(
        "é",
        "e\u0301",
        "É",
        "ß",
        "SS",
        "ａ",
        "\uffff",
        "\U0001f600",
        "\ue000",
        "a\nb",
        "a\tb",
        "a\u2028b",
        " a",
        "a ",
        "\u200ba",
    ),
    *(
        [],
        [None],
        ["a"],
        ["A"],
        ["a", "b"],
        [1],
        [1.0],
        [True],
        ["1"],
        [False, None],
        [["a"]],
        [{}],
        [""],
        ["a%b"],
        [2**53 + 1],
    ),
    *({}, {"x": 1}, {"x": "a"}, {"x": None}, {"x": []}, {"x": {"x": "a"}}, {"y": True}, {"": "a"}),
]
"""What a stamp may hold in a field: wrong types, look-alikes of each other, the edges of numbers and
of code points.
"""

KNOWN: Final = [value for value in VALUES if value is not ABSENT and not isinstance(value, list | dict)]
FIELDS: Final = [
    ("a",),
    ("b",),
    ("a", "x"),
    ("a", "x", "x"),
    ("no",),
    ("teams",),
    ("level",),
    ("two words",),
    ("dot.ted",),
    ("größe",),
]
COLUMNS: Final = [("id",), ("filename",), ("purpose",), ("owner",), ("tenant",)]
NUMBERED: Final = ("bytes",)


def rows_of_all_kinds() -> list[FileRow]:
    """Return a row for each value in each field, with the others' values running past it, and a
    filename that is hostile too.
    """
    names = [value for value in KNOWN if isinstance(value, str)]
    rows = []
    for number, (one, shift) in enumerate(itertools.product(range(len(VALUES)), (0, 7, 31))):
        values = {
            "a": VALUES[one],
            "b": VALUES[(one + shift) % len(VALUES)],
            "größe": VALUES[(one * 5 + shift) % len(VALUES)],
        }
        values |= {"two words": VALUES[one - shift], "dot.ted": VALUES[one // 2]}
        fields = {name: value for name, value in values.items() if value is not ABSENT}
        rows.append(file_of(ANN, f"file-{number:03d}", filename=names[number % len(names)], **fields))
    return rows


ROWS: Final = rows_of_all_kinds()


def view_of(row: FileRow) -> dict[str, Any]:
    return {**row.stamp, "id": row.id, "filename": row.filename, "purpose": row.purpose, "bytes": row.bytes}


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def connection(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Connection]:
    """The rows on a database of each kind; its JSON functions are in the connection's `info`."""
    with contextlib.ExitStack() as stack:
        if request.param == "sqlite":
            url = f"sqlite:///{tmp_path_factory.mktemp('rows') / 'rows.db'}"
        else:
            server: Postgres = request.getfixturevalue("postgres")
            url = server.url(stack.enter_context(server.database())).replace(
                "postgresql://", "postgresql+psycopg://"
            )
        engine = create_engine(url, json_serializer=encode, json_deserializer=decode)
        stack.callback(engine.dispose)
        metadata.create_all(engine)
        with engine.begin() as opened:
            opened.execute(insert(files), [file_columns(row) for row in ROWS])
            opened.info["json"] = JSONS[request.param]
            yield opened


JSONS: Final[dict[str, JsonSql]] = {"sqlite": SqliteJson(), "postgres": PostgresJson()}
SHAPE: Final = RowShape(
    texts={name: files.c[name] for name in ("id", "filename", "purpose", "owner", "tenant")},
    numbers={"bytes": files.c["bytes"]},
    document=files.c.stamp,
)


def found_in_sql(connection: Connection, expression: Expression) -> set[str]:
    return set(
        connection.scalars(select(files.c.id).where(render(expression, SHAPE, connection.info["json"])))
    )


def found_by_meaning(expression: Expression) -> set[str]:
    return {row.id for row in ROWS if holds(expression, view_of(row))}


operators = st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge"])
scalars = st.sampled_from(KNOWN)
texts = st.sampled_from([value for value in KNOWN if isinstance(value, str)])
numbers = st.sampled_from(
    [value for value in KNOWN if isinstance(value, int | float) and not isinstance(value, bool)]
)
columns = st.sampled_from([*COLUMNS, NUMBERED])
fields = st.one_of(st.sampled_from(FIELDS), st.sampled_from(FIELDS[:2]), columns, st.just(("id", "x")))
lists = st.lists(scalars, max_size=6).map(tuple)
atoms: st.SearchStrategy[Expression] = st.one_of(
    st.builds(Compare, operators, fields, scalars),
    st.builds(Ordered, st.sampled_from(["lt", "le", "gt", "ge"]), fields, numbers),
    st.builds(CompareFields, operators, fields, columns),
    st.builds(CompareFields, operators, columns, fields),
    st.builds(In, fields, lists),
    st.builds(Overlaps, fields, lists),
    st.builds(Text, st.sampled_from(["startswith", "endswith", "contains"]), fields, texts),
    st.builds(Truthy, fields),
    st.builds(Defined, fields),
    st.builds(NonEmpty, fields),
)
expressions: st.SearchStrategy[Expression] = st.recursive(
    atoms,
    lambda parts: st.one_of(
        st.builds(Not, parts),
        st.lists(parts, max_size=3).map(tuple).map(And),
        st.lists(parts, max_size=3).map(tuple).map(Or),
    ),
    max_leaves=6,
)


def test_random_expressions_find_the_same_rows_in_sql(connection: Connection) -> None:
    telling = []

    @settings(max_examples=300)
    @given(expressions)
    def compare(expression: Expression) -> None:
        expected = found_by_meaning(expression)
        telling.append(0 < len(expected) < len(ROWS))
        assert found_in_sql(connection, expression) == expected

    compare()
    assert sum(telling) > len(telling) / 5, (
        "too few expressions tell rows apart for the comparison to mean anything"
    )


@pytest.mark.parametrize("operator", ["eq", "ne", "lt", "le", "gt", "ge"])
def test_every_known_value_compares_with_every_stored_one_as_in_rego(
    connection: Connection, operator: Any
) -> None:
    compared = [Compare(operator, ("a",), known) for known in KNOWN]
    assert [found_in_sql(connection, one) for one in compared] == [found_by_meaning(one) for one in compared]


@pytest.mark.parametrize("operator", ["eq", "ne", "lt", "le", "gt", "ge"])
def test_fields_compare_with_columns_on_either_side_as_in_rego(connection: Connection, operator: Any) -> None:
    pairs = [(left, right) for left in (*FIELDS[:3], *COLUMNS, NUMBERED) for right in (*COLUMNS, NUMBERED)]
    compared = [
        CompareFields(operator, *fields) for left, right in pairs for fields in ((left, right), (right, left))
    ]
    assert [found_in_sql(connection, one) for one in compared] == [found_by_meaning(one) for one in compared]


@pytest.mark.parametrize("operator", ["startswith", "endswith", "contains"])
def test_every_text_is_found_in_every_stored_one_without_wildcards(
    connection: Connection, operator: Any
) -> None:
    compared = [
        Text(operator, field, known)
        for known in KNOWN
        if isinstance(known, str)
        for field in (("a",), ("filename",))
    ]
    assert [found_in_sql(connection, one) for one in compared] == [found_by_meaning(one) for one in compared]


def test_every_single_value_is_in_the_lists_it_is_in(connection: Connection) -> None:
    compared: list[Expression] = [kind(("a",), (known,)) for known in KNOWN for kind in (In, Overlaps)]
    assert [found_in_sql(connection, one) for one in compared] == [found_by_meaning(one) for one in compared]


def test_complement_of_each_atom_is_all_other_rows(connection: Connection) -> None:
    everything = {row.id for row in ROWS}
    some: list[Expression] = [
        Compare("lt", ("a",), "b"),
        Compare("ne", ("a",), 1),
        In(("a",), (None, "a")),
        Overlaps(("a",), ("a",)),
        Text("contains", ("a",), "a"),
        Truthy(("a",)),
        Defined(("a",)),
        NonEmpty(("a",)),
        CompareFields("le", ("a",), ("filename",)),
    ]
    assert [found_in_sql(connection, Not(one)) for one in some] == [
        everything - found_by_meaning(one) for one in some
    ]


def test_principal_with_ten_thousand_teams_is_one_parameter(connection: Connection) -> None:
    many = tuple(f"team-{number}" for number in range(10_000))
    expression = Or(tuple(Overlaps((name,), (*many, "a")) for name in ("a", "b", "teams", "größe", "no")))
    assert found_in_sql(connection, expression) == found_by_meaning(expression)


def test_wide_and_deep_expressions_are_rendered_within_the_databases_bounds(connection: Connection) -> None:
    wide = Or(tuple(Compare("eq", ("b",), f"{number}") for number in range(900)))
    deep: Expression = Compare("eq", ("a",), "a")
    for number in range(10):
        deep = And((Or((Overlaps(("a",), (number, "a")), Not(deep))), Compare("ne", ("b",), number)))
    assert [found_in_sql(connection, one) for one in (wide, deep)] == [
        found_by_meaning(one) for one in (wide, deep)
    ]


NOT_EXACT: Final[list[Expression]] = [
    CompareFields("eq", ("a",), ("b",)),
    Defined(()),
    Compare("eq", ("a\x00",), 1),
    Compare("eq", ("a",), "\x00"),
    Compare("eq", ("a",), "\ud800"),
    In(("a",), ("a", "b\x00")),
    Text("contains", ("a",), "\x00"),
    Compare("lt", ("a",), 2**63),
    Overlaps(("a",), (2**70,)),
    Compare("lt", ("a",), float("nan")),
    In(("a",), (float("inf"),)),
    Or(tuple(Compare("eq", ("a",), number) for number in range(1_001))),
]
NOT_A_PATH_OF_SQLITE: Final[list[Expression]] = [
    Compare("eq", (name,), 1) for name in ('a"b', "a\\", "a\n", "")
]


@pytest.mark.parametrize(
    ("json", "expression"),
    [
        *itertools.product(JSONS.values(), NOT_EXACT),
        *((JSONS["sqlite"], expression) for expression in NOT_A_PATH_OF_SQLITE),
    ],
    ids=lambda value: (
        repr(value)[:60] if not isinstance(value, SqliteJson | PostgresJson) else type(value).__name__
    ),
)
def test_what_has_no_exact_form_is_refused_with_a_reason(json: JsonSql, expression: Expression) -> None:
    with pytest.raises(FilterNotExpressible) as refusal:
        render(expression, SHAPE, json)
    assert refusal.value.detail


@pytest.mark.parametrize("json", JSONS.values(), ids=JSONS)
def test_expression_that_is_too_deep_is_refused(json: JsonSql) -> None:
    deep: Expression = Defined(("a",))
    for number in range(13):
        deep = And((Compare("eq", ("b",), number), Or((deep, Compare("eq", ("a",), number)))))
    with pytest.raises(FilterNotExpressible):
        render(deep, SHAPE, json)


@pytest.mark.parametrize("json", JSONS.values(), ids=JSONS)
def test_no_value_and_no_name_stands_in_the_text_of_the_statement(json: JsonSql) -> None:
    expression = And(
        (
            Compare("eq", ("fieldname",), "secretvalue"),
            Overlaps(("listname",), ("secretvalue",)),
            In(("fieldname",), ("secretvalue",)),
        )
    )
    statement = str(select(files.c.id).where(render(expression, SHAPE, json)))
    assert [word in statement for word in ("fieldname", "listname", "secretvalue")] == [False] * 3
