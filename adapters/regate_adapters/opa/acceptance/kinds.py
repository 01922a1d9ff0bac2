"""Of which kind a known term is, and which builtins never fail on which kinds. Nothing here speaks of rules;
that is `certainty.py`.

The gateway's own inputs have the types of their schemas, so a builtin that is given what it takes is sure of
an answer. A principal's attributes are made of claims and may be anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from regate_adapters.opa.acceptance.nodes import (
    Node,
    Path,
    bare,
    is_call,
    operator_of,
    steps_below,
    variables,
)
from regate_orchestrator.filters.schema import FieldType, RowSchema

Kind: TypeAlias = Literal["string", "number", "boolean", "null", "names", "array", "set", "object", "any"]
"""`names` is an array of strings."""

_ANY: Final[frozenset[Kind]] = frozenset(
    {"string", "number", "boolean", "null", "names", "array", "set", "object", "any"}
)
_TEXT: Final[frozenset[Kind]] = frozenset({"string"})
_NUMBER: Final[frozenset[Kind]] = frozenset({"number"})
_ARRAY: Final[frozenset[Kind]] = frozenset({"array", "names"})
_NAMES: Final[frozenset[Kind]] = frozenset({"names"})
_SET: Final[frozenset[Kind]] = frozenset({"set"})
_OBJECT: Final[frozenset[Kind]] = frozenset({"object"})
_MANY: Final = _ARRAY | _SET
_SIZED: Final = _MANY | _OBJECT | _TEXT

_Signature: TypeAlias = tuple[tuple[frozenset[Kind], ...], Kind]

SURE: Final[Mapping[str, tuple[_Signature, ...]]] = {
    **dict.fromkeys(
        ("eq", "equal", "neq", "lt", "lte", "gt", "gte", "internal.member_2"), (((_ANY, _ANY), "boolean"),)
    ),
    "internal.member_3": (((_ANY, _ANY, _ANY), "boolean"),),
    **dict.fromkeys(
        ("is_string", "is_number", "is_boolean", "is_array", "is_set", "is_object", "is_null"),
        (((_ANY,), "boolean"),),
    ),
    "type_name": (((_ANY,), "string"),),
    **dict.fromkeys(("startswith", "endswith", "contains"), (((_TEXT, _TEXT), "boolean"),)),
    **dict.fromkeys(("lower", "upper", "trim_space"), (((_TEXT,), "string"),)),
    **dict.fromkeys(
        ("trim", "trim_left", "trim_right", "trim_prefix", "trim_suffix"), (((_TEXT, _TEXT), "string"),)
    ),
    "replace": (((_TEXT, _TEXT, _TEXT), "string"),),
    "split": (((_TEXT, _TEXT), "names"),),
    "concat": (((_TEXT, _NAMES), "string"),),
    "sprintf": (((_TEXT, _ARRAY), "string"),),
    "count": (((_SIZED,), "number"),),
    "plus": (((_NUMBER, _NUMBER), "number"),),
    "mul": (((_NUMBER, _NUMBER), "number"),),
    "minus": (((_NUMBER, _NUMBER), "number"), ((_SET, _SET), "set")),
    **dict.fromkeys(("abs", "ceil", "floor", "round"), (((_NUMBER,), "number"),)),
    "and": (((_SET, _SET), "set"),),
    "or": (((_SET, _SET), "set"),),
    "array.concat": (((_ARRAY, _ARRAY), "array"),),
    "object.get": (((_OBJECT, _ANY, _ANY), "any"),),
    "object.keys": (((_OBJECT,), "set"),),
    "sort": (((_MANY,), "array"),),
    "min": (((_MANY,), "any"),),
    "max": (((_MANY,), "any"),),
}
"""The builtins that cannot fail when they are given these kinds, and of which kind their answers are."""

_TESTS: Final[Mapping[str, Kind]] = {
    "is_string": "string",
    "is_number": "number",
    "is_boolean": "boolean",
    "is_array": "array",
    "is_set": "set",
    "is_object": "object",
}
_OF_ROWS: Final[Mapping[FieldType, Kind]] = {
    "string": "string",
    "number": "number",
    "boolean": "boolean",
    "list": "names",
}
_LITERALS: Final[Mapping[str, Kind]] = {
    "string": "string",
    "number": "number",
    "boolean": "boolean",
    "null": "null",
    "object": "object",
    "set": "set",
    "array": "array",
    "arraycomprehension": "array",
    "setcomprehension": "set",
    "objectcomprehension": "object",
    "templatestring": "string",
}
_OF_INPUT: Final[Mapping[Path, Kind]] = {
    (): "object",
    ("v",): "number",
    ("now",): "number",
    ("action",): "string",
    ("request_id",): "string",
    ("principal",): "object",
    ("principal", "id"): "string",
    ("principal", "tenant"): "string",
    ("principal", "clearance"): "number",
    ("principal", "attrs"): "object",
    **{("principal", name): "names" for name in ("teams", "roles", "projects", "namespaces", "scopes")},
}


class Kinds:
    """The kinds of terms, in the order in which a body is evaluated. `schemas` are those of the rows
    that an input holds, by their key.
    """

    def __init__(self, schemas: Mapping[str, RowSchema]) -> None:
        rows = ((row, spec) for row, schema in schemas.items() for spec in schema.fields.values())
        self._input: Mapping[Path, Kind] = {
            **_OF_INPUT,
            **{(row, spec.name): _OF_ROWS[spec.type] for row, spec in rows},
        }
        self._shown: dict[str, Kind] = {}

    def within(self) -> Kinds:
        """Return what is known inside a nested body: all that is known here, and nothing of what is
        learnt there.
        """
        inner = Kinds({})
        inner._input, inner._shown = self._input, dict(self._shown)
        return inner

    def learn(self, expression: Node) -> None:
        """Note what holds from this expression on: what it binds, and what it tests the type of."""
        terms = expression["terms"]
        if expression.get("negated") or expression.get("with"):
            return
        if isinstance(terms, list) and len(terms) == 2 and operator_of(terms) in _TESTS:
            self._shown[_key(terms[1])] = _TESTS[operator_of(terms)]
        elif isinstance(terms, list) and is_call(terms, "assign") and terms[1]["type"] == "var":
            self._shown[_key(terms[1])] = self.of(terms[2])
        elif isinstance(terms, dict):
            for symbol in terms.get("symbols") or ():
                if symbol["type"] == "call" and symbol["value"][-2]["type"] == "var":
                    self._shown[_key(symbol["value"][-2])] = (
                        "string" if self.of(symbol["value"][-1]) == "names" else "any"
                    )

    def forget(self, names: Iterator[str]) -> None:
        """Know nothing of these variables any more: a nested body has variables of the same names."""
        for name in names:
            self._shown.pop(_key({"type": "var", "value": name}), None)

    def of(self, term: Node) -> Kind:
        """Return the kind of a term; `any` where it is not known."""
        if (shown := self._shown.get(_key(term))) is not None:
            return shown
        steps = steps_below(term, "input")
        if steps is not None:
            return self._of_input(steps)
        if term["type"] == "call":
            return self._of_call(term["value"])
        if term["type"] == "array" and all(self.of(element) == "string" for element in term["value"]):
            return "names"
        if term["type"] == "arraycomprehension":
            return self._of_comprehension(term["value"])
        return _LITERALS.get(term["type"], "any")

    def is_sure(self, terms: Sequence[Node]) -> bool:
        """Return whether the call of a builtin cannot fail."""
        return self._answer(terms) is not None

    def _of_input(self, steps: Sequence[Node]) -> Kind:
        names = tuple(str(step["value"]) for step in steps)
        literal = all(step["type"] == "string" for step in steps)
        if literal and names in self._input:
            return self._input[names]
        inside = steps[:-1]
        if (
            inside
            and all(step["type"] == "string" for step in inside)
            and self._input.get(names[:-1]) == "names"
        ):
            return "string"
        return "any"

    def _of_call(self, terms: Sequence[Node]) -> Kind:
        return self._answer(terms) or "any"

    def _of_comprehension(self, inside: Node) -> Kind:
        inner = self.within()
        inner.forget(variables(inside))
        for expression in inside["body"]:
            inner.learn(expression)
        return "names" if inner.of(inside["term"]) == "string" else "array"

    def _answer(self, terms: Sequence[Node]) -> Kind | None:
        given = [self.of(argument) for argument in terms[1:]]
        for taken, answer in SURE.get(operator_of(terms), ()):
            if len(taken) == len(given) and all(
                kind in fitting for kind, fitting in zip(given, taken, strict=True)
            ):
                return answer
        return None


def _key(term: Any) -> str:
    return json.dumps(bare(term), sort_keys=True)
