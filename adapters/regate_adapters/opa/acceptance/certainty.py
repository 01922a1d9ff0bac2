"""What may go wrong in what a filter's rules say of known things. It must not: full evaluation denies on an
error, and a filter does not see it.

Under a negation OPA keeps every error of partial evaluation to itself and goes on as if the rule said
nothing: of two rules that contradict each other, of an object with two values for one key, of a builtin that
is given what it cannot take. A `deny` is then lost whole, and the filter is wider than the rule. So what is
evaluated for a filter must be unable to fail, whatever is known of the caller.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from regate_adapters.opa.acceptance.findings import Finding
from regate_adapters.opa.acceptance.kinds import Kinds
from regate_adapters.opa.acceptance.nodes import (
    COMPREHENSIONS,
    Node,
    bare,
    call_in,
    declared_in,
    is_call,
    operator_of,
    row_of,
    spelt,
    variables,
)
from regate_adapters.opa.acceptance.reach import Branch, Reach
from regate_adapters.opa.acceptance.syntax import Definition
from regate_orchestrator.filters.schema import RowSchema

NO_WITH: Final = "`with` cannot be part of a filter; write a rule that reads the input as it is"
_TWO_VALUES_FOR_A_KEY: Final = (
    "an object may get two values for one key, and a filter would then be made as if the rule said "
    "nothing; write a set"
)
_BINDING: Final = ("assign", "internal.print", "print")
_SCALARS: Final = ("string", "number", "boolean", "null")


def certainty_findings(reach: Reach, schemas: Mapping[str, RowSchema]) -> Iterator[Finding]:
    """Yield what may fail while the filter is made. `schemas` are those of the rows in the input, by
    their key; of others nothing is known.
    """
    for path, definitions in reach.evaluated.items():
        for definition, branches in definitions:
            yield from _Reader(reach, definition, schemas).branches(branches)
        if path not in reach.touching:  # those may only ever be true, so they cannot contradict each other
            yield from _contradictions(definitions)


class _Reader:
    """Reads one definition of one rule, as far as it is evaluated."""

    def __init__(self, reach: Reach, definition: Definition, schemas: Mapping[str, RowSchema]) -> None:
        self._policies = reach.policies
        self._definition = definition
        self._schemas = schemas
        self._line = definition.row

    def branches(self, branches: Sequence[Branch]) -> Iterator[Finding]:
        """Yield what may fail in these."""
        for branch in branches:
            kinds = Kinds(self._schemas)
            self._line = self._definition.row
            yield from self._body(branch.body, kinds)
            for part in (branch.head or {}).values():
                yield from self._each(part if isinstance(part, list) else [part], kinds)

    def _body(self, body: Sequence[Node], kinds: Kinds) -> Iterator[Finding]:
        for expression in body:
            self._line = row_of(expression, self._line)
            if expression.get("with"):
                yield self._finding("no-with", NO_WITH)
            yield from self._expression(expression["terms"], kinds)
            kinds.learn(expression)

    def _expression(self, terms: Any, kinds: Kinds) -> Iterator[Finding]:
        if isinstance(terms, list):
            yield from self._call(terms, kinds)
            return
        match terms:
            case {"symbols": symbols}:
                yield from self._each(symbols, kinds)
            case {"domain": domain, "body": body}:
                yield from self._term(domain, kinds)
                yield from self._nested(body, kinds, variables([terms.get("key") or {}, terms["value"]]))
            case {"type": "not", "body": body}:
                yield from self._nested(body, kinds, declared_in(body))
            case {"type": "and" | "or", "lhs": left, "rhs": right}:
                yield from self._nested(left, kinds, declared_in(left))
                yield from self._nested(right, kinds, declared_in(right))
            case _:
                yield from self._term(terms, kinds)

    def _each(self, terms: Sequence[Node], kinds: Kinds) -> Iterator[Finding]:
        for term in terms:
            yield from self._term(term, kinds)

    def _term(self, term: Node, kinds: Kinds) -> Iterator[Finding]:
        match term:
            case {"type": "call", "value": call}:
                yield from self._call(call, kinds)
            case {"type": "ref" | "array" | "set", "value": parts}:
                yield from self._each(parts, kinds)
            case {"type": "object", "value": pairs}:
                for pair in pairs:
                    yield from self._each(pair, kinds)
            case {"type": "templatestring", "value": {"parts": parts}}:
                for part in parts:
                    yield from self._expression(part.get("terms", part), kinds)
            case {"type": kind, "value": inside} if kind in COMPREHENSIONS:
                if kind == "objectcomprehension":
                    yield self._finding("may-contradict", _TWO_VALUES_FOR_A_KEY)
                yield from self._comprehension(inside, kinds)

    def _comprehension(self, inside: Node, kinds: Kinds) -> Iterator[Finding]:
        inner = kinds.within()
        inner.forget(declared_in(inside["body"]))
        yield from self._body(inside["body"], inner)
        for name, term in inside.items():
            if name != "body":
                yield from self._term(term, inner)

    def _nested(self, body: Sequence[Node], kinds: Kinds, own: Iterator[str]) -> Iterator[Finding]:
        inner = kinds.within()
        inner.forget(own)
        yield from self._body(body, inner)

    def _call(self, terms: Sequence[Node], kinds: Kinds) -> Iterator[Finding]:
        yield from self._each(terms[1:], kinds)
        operator = operator_of(terms)
        if operator in _BINDING or self._policies.referred(terms[0]) or kinds.is_sure(terms):
            return
        yield self._finding(
            "may-fail",
            f"{spelt(operator)} fails on what it cannot take, and a filter would be made as if "
            f"{self._definition.name} said nothing; give it what is "
            "sure to have its type (after `is_string(x)`, say), or work it out in "
            "regate.custom.authn.attrs and compare the attribute",
        )

    def _finding(self, code: str, message: str) -> Finding:
        return Finding(code, message, self._definition.module.file, self._line)


def _contradictions(definitions: Sequence[tuple[Definition, Sequence[Branch]]]) -> Iterator[Finding]:
    """Yield where a rule may come to have two values at once."""
    live = [
        (one, [branch for branch in branches if branch.head is not None])
        for one, branches in definitions
        if not one.is_default
    ]
    live = [(one, branches) for one, branches in live if branches and not one.is_set]
    values = [bare(_value_of(branch)) for _, branches in live for branch in branches]
    keyed = any(one.is_partial for one, _ in live)
    if not keyed and values and all(value == values[0] and value["type"] in _SCALARS for value in values):
        return
    apart = len(live) == 1 or _arguments_differ([one for one, _ in live])
    for one, branches in live:
        if not keyed and apart and all(_has_one_value(one, branch) for branch in branches):
            continue
        message = (
            f"{one.name} may have two values at once, and a filter would then be made as if it said "
            "nothing; write one definition whose body goes "
            "through no list (`else` for further cases), a rule that is true, or a set"
        )
        yield Finding("may-contradict", message, one.module.file, one.row)
        return


def _value_of(branch: Branch) -> Node:
    value: Node = (branch.head or {}).get("value") or {"type": "boolean", "value": True}
    return value


def _has_one_value(definition: Definition, branch: Branch) -> bool:
    """Return whether the branch cannot give two values: it gives a literal, or nothing in it goes
    through a list.
    """
    value = _value_of(branch)
    if value["type"] in _SCALARS:
        return True
    bound = set(variables(definition.node["head"].get("args") or []))
    for expression in branch.body:
        terms = expression["terms"]
        if isinstance(terms, dict) and "symbols" in terms:
            return False
        if not _is_determined(terms, bound):
            return False
        if isinstance(terms, list) and is_call(terms, "assign", "eq"):
            bound |= set(variables(terms[1:]))
    return _is_determined(value, bound)


def _is_determined(tree: Any, bound: set[str]) -> bool:
    """Return whether no reference in the tree goes through a list; what comprehensions and `every` do
    inside is their own affair.
    """
    if isinstance(tree, list):
        return all(_is_determined(one, bound) for one in tree)
    if not isinstance(tree, dict):
        return True
    if tree.get("type") in COMPREHENSIONS:
        return True
    if "domain" in tree:
        return _is_determined(tree["domain"], bound)
    if tree.get("type") == "ref":
        return all(step["type"] != "var" or step["value"] in bound for step in tree["value"][1:]) and all(
            _is_determined(step, bound) for step in tree["value"][1:]
        )
    if (terms := call_in(tree)) is not None and is_call(terms, "walk"):
        return False
    return all(_is_determined(value, bound) for name, value in tree.items() if name != "location")


def _arguments_differ(definitions: Sequence[Definition]) -> bool:
    """Return whether no two definitions of a function apply to the same arguments, as their literals show."""
    given = [bare(one.node["head"].get("args") or []) for one in definitions]
    pairs = ((one, other) for number, one in enumerate(given) for other in given[number + 1 :])
    return all(
        any(
            left["type"] in _SCALARS and right["type"] in _SCALARS and left != right
            for left, right in zip(one, other, strict=False)
        )
        for one, other in pairs
    )
