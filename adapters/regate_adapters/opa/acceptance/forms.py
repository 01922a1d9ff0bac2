"""The forms of expressions that a filter can be made of. What is none of them is no filter: `rows.py`,
the counterpart, says why not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from regate_adapters.opa.acceptance.nodes import (
    COMPARISONS,
    COMPREHENSIONS,
    TRUE,
    Node,
    Path,
    bare,
    is_call,
    nodes,
    operator_of,
    steps_below,
    variables,
)
from regate_adapters.opa.acceptance.reach import Reach, mentions

_TEXT: Final = ("startswith", "endswith", "contains")
_COLLECTIONS: Final = ("array", "set", "object", *COMPREHENSIONS)
_EQUAL: Final = ("equal", "eq")

Part: TypeAlias = Literal["field", "element", "known", "condition", "other"]


@dataclass
class Scope:
    """The local variables of a body that matter: elements of the row's lists, what else was made from
    the row, elements of the caller's lists.
    """

    elements: set[str] = field(default_factory=set)
    derived: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)
    bindings: dict[str, list[Node]] = field(default_factory=dict)

    def binds(self, expression: Node, name: str) -> bool:
        """Return whether this is the expression that makes the name an element."""
        return any(expression is bound for bound in self.bindings.get(name, ()))


class Forms:
    """Tells what expressions of a filter's rules are."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._unknown = reach.filter.unknown

    # ------------------------------------------------------------ variables

    def scope(self, body: Sequence[Node]) -> Scope:
        """Return what the local variables of the body stand for."""
        scope = Scope()
        for expression in body:
            self._bind(expression, scope)
        while True:
            before = len(scope.derived)
            for expression in body:
                self._derive(expression, scope)
            if len(scope.derived) == before:
                return scope

    def _bind(self, expression: Node, scope: Scope) -> None:
        terms = expression["terms"]
        if isinstance(terms, dict):
            for symbol in terms.get("symbols") or ():
                if symbol["type"] == "call":
                    *names, domain = symbol["value"][1:]
                    self._bind_element(names[-1], domain, scope, expression)
        elif is_call(terms, "assign", "eq") and len(terms) == 3:
            for name, value in ((terms[1], terms[2]), (terms[2], terms[1])):
                steps = steps_below(value, "input")
                if steps and steps[-1]["type"] == "var":
                    self._bind_element(name, {"type": "ref", "value": value["value"][:-1]}, scope, expression)
        for node in nodes(terms):
            steps = steps_below(node, "input") or []
            if steps and steps[0]["value"] != self._unknown:
                # `input.principal.teams[i]` iterates just as `some … in` does.
                scope.known |= {
                    str(step["value"])
                    for step in steps[1:]
                    if step["type"] == "var" and not str(step["value"]).startswith("$")
                }

    def _bind_element(self, name: Node, domain: Node, scope: Scope, expression: Node) -> None:
        named = set(variables(name))
        if self.field(domain) is not None:
            if name["type"] == "var":
                scope.elements |= named
                scope.bindings.setdefault(str(name["value"]), []).append(expression)
            else:
                scope.derived |= named
        elif steps_below(domain, "input") is not None:
            scope.known |= named

    def _derive(self, expression: Node, scope: Scope) -> None:
        """Note what a variable that is bound to something of the row stands for, and the positions in
        its lists.
        """
        terms = expression["terms"]
        if isinstance(terms, list) and is_call(terms, "assign", "eq") and len(terms) == 3:
            for one, other in ((terms[1], terms[2]), (terms[2], terms[1])):
                if self.speaks_of_row(other, scope):
                    scope.derived |= set(_bindable(one)) - scope.elements
        for node in nodes(terms):
            steps = steps_below(node, "input") or []
            if steps and steps[0]["value"] == self._unknown:
                scope.derived |= {
                    str(step["value"])
                    for step in steps[1:]
                    if step["type"] == "var" and not str(step["value"]).startswith("$")
                }

    # ------------------------------------------------------------ terms

    def field(self, term: Node) -> str | None:
        """Return the field of the row that the term is; None for anything else, elements of a field
        included.
        """
        match steps_below(term, "input"):
            case [{"type": "string", "value": self._unknown}, {"type": "string", "value": str(name)}]:
                return name
            case _:
                return None

    def condition(self, term: Node) -> Path | None:
        """Return the plain rule that the term names and that can be a condition; None for anything else."""
        path = self._reach.policies.exactly(term)
        if path is None or any(one.is_function or one.is_partial for one in self._reach.policies.rules[path]):
            return None
        return path

    def speaks_of_row(self, tree: Any, scope: Scope) -> bool:
        """Return whether the tree reads the row, a variable that was made from it, or a rule that
        speaks of it.
        """
        if mentions(tree, self._unknown) or not (scope.elements | scope.derived).isdisjoint(variables(tree)):
            return True
        return not self._reach.touching.isdisjoint(self._reach.policies.referred(tree))

    def is_open(self, tree: Any, scope: Scope) -> bool:
        """Return whether the tree speaks of the row, or rests on a rule that OPA leaves open."""
        return self.speaks_of_row(tree, scope) or not self._reach.open.isdisjoint(
            self._reach.policies.referred(tree)
        )

    def _part(self, term: Node, scope: Scope) -> Part:
        if self.field(term) is not None:
            return "field"
        if term["type"] == "var" and term["value"] in scope.elements:
            return "element"
        steps = steps_below(term, "input") or []
        if (
            len(steps) == 3
            and steps[0]["value"] == self._unknown
            and steps[1]["type"] == "string"
            and steps[2]["type"] == "var"
        ):
            return "element"
        if not self.is_open(term, scope):
            return "known"
        return "other" if self.condition(term) is None else "condition"

    # ------------------------------------------------------------ expressions

    def is_sayable(self, expression: Node, scope: Scope, *, written_out: bool) -> bool:
        """Return whether an open expression has one of the forms. `written_out` demands literals,
        since OPA works nothing out inside `or`.
        """
        terms = expression["terms"]
        if expression.get("with"):
            return True  # it has been refused
        if expression.get("negated"):
            return isinstance(terms, dict) and self.condition(terms) is not None
        if written_out and any(
            steps_below(node, "data") or _is_known_input(node, self._unknown) for node in nodes(terms)
        ):
            return False
        if isinstance(terms, list):
            return self._is_sayable_call(terms, scope)
        match terms:
            case {"symbols": symbols}:
                return all(self._is_iteration(symbol) for symbol in symbols)
            case {"type": "and" | "or"}:
                return True  # each side was read as a body of its own
            case {"type": "not", "body": [{"terms": dict() as inner}]}:
                return self.condition(inner) is not None
            case {"type": "ref" | "var"}:
                return self._part(terms, scope) in ("field", "condition")
            case {"type": "call", "value": call}:
                return self._is_sayable_call(call, scope)
            case _:
                return False

    def _is_iteration(self, symbol: Node) -> bool:
        if symbol["type"] != "call":
            return True
        return (
            is_call(symbol["value"], "internal.member_2")
            and symbol["value"][1]["type"] == "var"
            and self.field(symbol["value"][2]) is not None
        )

    def _is_sayable_call(self, terms: Sequence[Node], scope: Scope) -> bool:
        operator, arguments = operator_of(terms), terms[1:]
        if operator == "print":
            return True
        if len(arguments) != 2:
            return False
        left, right = (self._part(argument, scope) for argument in arguments)
        if operator == "assign":
            return right == "element" and arguments[1]["type"] == "ref"
        if operator in COMPARISONS:
            return self._is_comparison(operator, arguments, left, right)
        if operator == "internal.member_2":
            return (left in ("field", "element") and right == "known" and _is_flat(arguments[1])) or (
                left == "known" and right == "field"
            )
        return operator in _TEXT and (left, right) == ("field", "known")

    def _is_comparison(self, operator: str, arguments: Sequence[Node], left: Part, right: Part) -> bool:
        parts = {left, right}
        if "condition" in parts:
            return operator in _EQUAL and any(bare(one) == TRUE for one in arguments)
        if any(one["type"] in _COLLECTIONS for one in arguments):
            return False
        if "element" in parts:
            return operator in _EQUAL and parts == {"element", "known"}
        return parts in ({"field", "known"}, {"field"})


def _bindable(term: Node) -> list[str]:
    """Return the variables that unifying with the term may bind: those that stand in it as a value,
    not inside of a reference or call.
    """
    if term["type"] == "var":
        return [str(term["value"])]
    if term["type"] in ("array", "set"):
        return [name for element in term["value"] for name in _bindable(element)]
    if term["type"] == "object":
        return [name for _, value in term["value"] for name in _bindable(value)]
    return []


def _is_flat(term: Node) -> bool:
    """Return whether a collection, as far as it is written out, holds no collections."""
    return term["type"] not in ("array", "set") or all(
        one["type"] not in _COLLECTIONS for one in term["value"]
    )


def _is_known_input(node: Node, unknown: str) -> bool:
    steps = steps_below(node, "input")
    return bool(steps) and steps is not None and steps[0]["value"] != unknown
