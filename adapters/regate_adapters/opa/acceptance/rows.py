"""What a filter can say of a row: the authoring rules of filterable policies, found in the syntax tree, with
what to write instead.

They bind the rules that are reached from the `allow` of a filterable package and speak of the row, or rest on
what OPA leaves open in a filter. Each was seen to go wrong: a filter that widens, hides, or costs seconds for
a caller with many groups. An expression that has none of the known forms is refused whatever it is. What a
residual means is the translator's business (`residual.py`); what may fail in what is known is
`certainty.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from regate_adapters.opa.acceptance.certainty import NO_WITH
from regate_adapters.opa.acceptance.field_tests import FieldTests
from regate_adapters.opa.acceptance.findings import Finding
from regate_adapters.opa.acceptance.forms import Forms, Scope
from regate_adapters.opa.acceptance.nodes import (
    COMPARISONS,
    COMPREHENSIONS,
    FALSE,
    MEMBER,
    TRUE,
    Node,
    is_call,
    nodes,
    operator_of,
    row_of,
    spelt,
    variables,
)
from regate_adapters.opa.acceptance.reach import Reach, mentions
from regate_adapters.opa.acceptance.repeating import unrepeatable
from regate_adapters.opa.acceptance.syntax import Definition
from regate_orchestrator.filters.schema import RowSchema

_TEXT: Final = ("startswith", "endswith", "contains")


def row_findings(reach: Reach, schema: RowSchema | None) -> Iterator[Finding]:
    """Yield every breach in the rules that the filter reaches. Without a schema every field counts as
    declared, and of any type.
    """
    entrypoint = reach.filter.entrypoint
    for path in reach.reached:
        for definition in reach.policies.rules[path]:
            yield from unrepeatable(definition)
            if path in reach.touching or path == entrypoint:
                yield from _Reader(reach, definition, schema).rule(is_entrypoint=path == entrypoint)
    for path, definitions in reach.evaluated.items():
        if path in reach.open - reach.touching and path != entrypoint:
            for definition, _ in definitions:
                yield from _Reader(reach, definition, schema).rule_left_open()


class _Reader:
    """Reads one definition of one rule."""

    def __init__(self, reach: Reach, definition: Definition, schema: RowSchema | None) -> None:
        self._reach = reach
        self._policies = reach.policies
        self._definition = definition
        self._unknown = reach.filter.unknown
        self._row = reach.filter.row
        self._schema = schema
        self._forms = Forms(reach)
        self._line = definition.row
        self._found: list[Finding] = []
        self._fields = FieldTests(self._forms, schema, reach.filter, self._say)

    def rule(self, *, is_entrypoint: bool) -> list[Finding]:
        """Return what is wrong with a rule that speaks of the row."""
        node, name = self._definition.node, self._definition.name
        if self._definition.is_default:
            if not is_entrypoint:
                self._say(
                    "default-on-helper",
                    (
                        f"{name} has a default; leave it out: a helper is true or undefined, and `not "
                        f"{name}` holds when it is"
                    ),
                )
            elif self._definition.value != FALSE:
                self._say(
                    "only-true-values",
                    f"the default of {name} must be false: whatever no rule allows is denied",
                )
            return self._found
        if self._definition.is_function:
            self._say(
                "no-functions",
                (
                    f"{name} takes arguments and reads {self._row}; write a rule without arguments that "
                    "names the fields itself"
                ),
            )
        elif self._definition.is_partial:
            self._say(
                "only-true-values",
                (
                    f"{name} is a set or an object made from {self._row}; write a rule that is true, and "
                    "negate or name it"
                ),
            )
        elif self._definition.value != TRUE:
            self._say(
                "only-true-values",
                (
                    f"{name} may only ever be made true; write what denies as a named rule and `not` it in "
                    f"{name}"
                ),
            )
        if "else" in node:
            self._say("no-else", f"{name} has an else; write each case as a definition of {name} of its own")
        self._body(node.get("body") or [])
        return self._found

    def rule_left_open(self) -> list[Finding]:
        """Return what is wrong with a rule that rests on rules which OPA leaves open in a filter,
        though it does not speak of the row.
        """
        definition = self._definition
        if (
            definition.is_function
            or definition.is_partial
            or "else" in definition.node
            or definition.value not in (TRUE, FALSE)
        ):
            self._open(definition.node)
        elif not definition.is_default and definition.value != self._meaningful_value():
            self._say(
                "only-true-values",
                (
                    f"{definition.name} says what it says already without this definition; write what "
                    "holds as a rule that is true, and negate that"
                ),
            )
        else:
            self._body(definition.node.get("body") or [])
        return self._found

    def _meaningful_value(self) -> Node:
        """Return which value a definition of the rule may give: the other one than its default, which
        without a default is `false`.
        """
        defaults = [one.value for one in self._policies.rules[self._definition.path] if one.is_default]
        return FALSE if defaults == [TRUE] else TRUE

    def _say(self, code: str, message: str) -> None:
        self._found.append(Finding(code, message, self._definition.module.file, self._line))

    def _open(self, tree: Any) -> None:
        resting = sorted(path for path in self._policies.referred(tree) if path in self._reach.open)
        named = resting[0][-1] if resting else self._definition.name
        self._say(
            "open-helper",
            f"{named} is left open in a filter, so it can be a condition and nothing else: write "
            f"`{named}` or `not {named}` by itself, in a rule "
            "without arguments that is true",
        )

    # ------------------------------------------------------------ bodies

    def _body(self, body: Sequence[Node], *, written_out: bool = False) -> None:
        scope = self._forms.scope(body)
        refused: set[str] = set()
        for expression in body:
            self._line = row_of(expression, self._line)
            if not self._forms.is_open(expression, scope) or self._names_refused_set(expression):
                continue
            before = len(self._found)
            self._expression(expression, scope)
            is_said = len(self._found) > before or not refused.isdisjoint(variables(expression))
            if not is_said and not self._forms.is_sayable(expression, scope, written_out=written_out):
                self._unsayable(expression, scope)
            if len(self._found) > before:
                refused |= scope.derived.intersection(variables(expression))
        self._elements_apart(body, scope)

    def _names_refused_set(self, expression: Node) -> bool:
        """Return whether the expression names a set made from the row, which is refused where it is
        defined, whatever is made of it.
        """
        named = self._policies.referred(expression) & self._reach.touching
        return any(one.is_partial for path in named for one in self._policies.rules[path])

    def _unsayable(self, expression: Node, scope: Scope) -> None:
        if self._forms.speaks_of_row(expression, scope):
            message = (
                f"this is none of the tests of {self._row} that a filter can make; compare a field with a "
                "known value"
            )
            self._say("computed-from-row", message)
        else:
            self._open(expression)

    def _elements_apart(self, body: Sequence[Node], scope: Scope) -> None:
        """An element moves into one test: two tests of one element are no two tests of the list."""
        for name in sorted(scope.elements):
            uses = [
                expression
                for expression in body
                if name in variables(expression) and not scope.binds(expression, name)
            ]
            if len(uses) > 1:
                self._line = row_of(uses[1], self._line)
                self._say(
                    "element-tested-twice",
                    f"{name} stands in more than one test, and a filter asks a list one thing at a "
                    "time; work out beforehand which values "
                    f"{name} may have, and write `{name} in` them",
                )

    # ------------------------------------------------------------ expressions

    def _expression(self, expression: Node, scope: Scope) -> None:
        terms = expression["terms"]
        if expression.get("with"):
            self._say("no-with", NO_WITH)
        if not self._forms.speaks_of_row(expression, scope):
            return
        if expression.get("negated"):
            self._negation(terms)
            return
        self._fields.references(terms)
        self._comprehensions(terms, scope)
        if isinstance(terms, list):
            self._known_first(terms, scope)
            self._call(terms, scope)
            return
        match terms:
            case {"symbols": symbols}:
                self._iterations(symbols, scope)
            case {"domain": _}:
                self._say(
                    "every-over-row",
                    (
                        f"`every` over {self._row} is no filter; write a named rule for an element that "
                        "must not be, and `not` it"
                    ),
                )
            case {"type": "not", "body": [{"terms": inner}]}:
                self._negation(inner)
            case {"type": "not"}:
                self._negation([])
            case {"type": "and" | "or", "lhs": left, "rhs": right}:
                self._body(left, written_out=True)
                self._body(right, written_out=True)
            case {"type": "call", "value": call}:
                self._call(call, scope)
            case _:
                self._known_first([terms], scope)

    def _negation(self, terms: Any) -> None:
        if not isinstance(terms, dict) or self._forms.condition(terms) is None:
            message = (
                f"a negated test of {self._row} is not exact where a field is missing; put the test into a "
                "named rule and write `not <rule>`"
            )
            self._say("negate-named-rules", message)

    def _iterations(self, symbols: Sequence[Node], scope: Scope) -> None:
        for symbol in symbols:
            if symbol["type"] != "call":
                continue
            if is_call(symbol["value"], "internal.member_3"):
                self._say(
                    "unbound-key",
                    (
                        f"positions in a list of {self._row} are no part of a filter; write `some x in "
                        f"{self._row}.<list>`"
                    ),
                )
            domain = symbol["value"][-1]
            if (name := self._forms.field(domain)) is not None:
                self._fields.require_type(name, "list", "iterate over a list field")
            self._nested([domain], scope)

    def _known_first(self, terms: Sequence[Node], scope: Scope) -> None:
        named = {name for term in terms for name in variables(term)} & scope.known
        if named and any(mentions(term, self._unknown) for term in terms):
            name = min(named)
            message = (
                f"the filter grows with every value of {name} that the caller holds; write the row first: "
                f"`some x in {self._row}.<list>` and then `x in input.principal.<list>`, or "
                f"`{self._row}.<field> in input.principal.<list>`"
            )
            self._say("row-first-membership", message)

    def _comprehensions(self, terms: Any, scope: Scope) -> None:
        for node in nodes(terms):
            if node.get("type") in COMPREHENSIONS and self._forms.speaks_of_row(node, scope):
                self._say(
                    "comprehension-over-row",
                    (
                        f"a comprehension over {self._row} is no filter; write `some x in "
                        f"{self._row}.<list>` and test x"
                    ),
                )

    # ------------------------------------------------------------ calls

    def _call(self, terms: Sequence[Node], scope: Scope) -> None:
        operator, arguments = operator_of(terms), terms[1:]
        if self._policies.referred(terms[0]):
            self._say(
                "no-functions",
                (
                    f"{terms[0]['value'][-1]['value']} is given {self._row}; write a rule without "
                    "arguments that names the fields itself"
                ),
            )
            return
        self._nested(arguments, scope)
        if operator == "assign":
            self._assignment(arguments)
        elif operator in COMPARISONS and len(arguments) == 2:
            self._fields.comparison(operator, arguments)
        elif operator in MEMBER:
            self._fields.membership(arguments)
        elif operator in _TEXT:
            self._fields.text(operator, arguments)
        elif operator != "print":
            self._computed(operator)

    def _computed(self, operator: str) -> None:
        self._say(
            "computed-from-row",
            (
                f"{spelt(operator)} of {self._row} is no filter; stamp what it computes as a field, and "
                "compare that"
            ),
        )

    def _nested(self, arguments: Sequence[Node], scope: Scope) -> None:
        for argument in arguments:
            for node in nodes(argument):
                if node.get("type") != "call" or not self._forms.speaks_of_row(node, scope):
                    continue
                operator = operator_of(node["value"])
                if self._policies.referred(node["value"][0]):
                    named = node["value"][0]["value"][-1]["value"]
                    self._say(
                        "no-functions",
                        (
                            f"{named} is given {self._row}; write a rule without arguments that names the "
                            "fields itself"
                        ),
                    )
                else:
                    self._computed(operator)

    def _assignment(self, arguments: Sequence[Node]) -> None:
        target, value = arguments
        if target["type"] == "var" and self._forms.field(value) is not None:
            self._fields.alias(target, value)
