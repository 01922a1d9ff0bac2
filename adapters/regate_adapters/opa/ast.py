"""OPA's JSON syntax trees as typed values: terms, statements, rules. Not their meaning; that is
`residual.py`, the counterpart.

Reading is total: a shape that is not known becomes `Opaque` or `Unknown` with its name, so that the
translator can refuse it by name. What is malformed raises `Unreadable`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, TypeAlias, assert_never

from regate_orchestrator.filters.expression import Scalar

DOCUMENTS: Final = ("input", "data")
_LARGEST: Final = 2**63


class Unreadable(ValueError):
    """The text is no syntax tree that OPA writes, or holds a number that no store can hold exactly."""


@dataclass(frozen=True, slots=True)
class Known:
    """A scalar that partial evaluation knew."""

    value: Scalar


@dataclass(frozen=True, slots=True)
class Collection:
    """A literal array, set or object; `elements` are what Rego's `in` iterates over, so of an object
    its values.
    """

    kind: str
    elements: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """A local variable."""

    name: str


@dataclass(frozen=True, slots=True)
class Opaque:
    """A term that no translation exists for: a nested call, a comprehension, an index that is not a name."""

    kind: str


Step: TypeAlias = str | Variable | Opaque


@dataclass(frozen=True, slots=True)
class Ref:
    """A reference. `root` is `input`, `data`, or the name of a local variable."""

    root: str
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return ".".join([self.root, *(step if isinstance(step, str) else "[…]" for step in self.steps)])


Term: TypeAlias = Known | Collection | Variable | Ref | Opaque


@dataclass(frozen=True, slots=True)
class Call:
    """A builtin applied to terms, e.g. `lte` or `internal.member_2`."""

    operator: str
    arguments: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Bare:
    """A term on its own, which holds when it is defined and not `false`."""

    term: Term


@dataclass(frozen=True, slots=True)
class Negation:
    """A `not` with a body of its own (`import rego.v2`): the plain complement, unlike the classic
    `not` of `Statement.negated`.
    """

    body: Body


@dataclass(frozen=True, slots=True)
class Junction:
    """The keywords `and` and `or` between two bodies."""

    conjunctive: bool
    left: Body
    right: Body


@dataclass(frozen=True, slots=True)
class Unknown:
    """A form that no translation exists for, such as `every` over an unknown list."""

    kind: str


Form: TypeAlias = Call | Bare | Negation | Junction | Unknown


@dataclass(frozen=True, slots=True)
class Statement:
    """One expression of a body. `negated` is the classic `not`; `modified` says that `with` changes
    its input.
    """

    form: Form
    negated: bool = False
    modified: bool = False


Body: TypeAlias = tuple[Statement, ...]
RulePath: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a support module. `plain` is false for functions, partial sets and objects, and
    rules with `else`.
    """

    path: RulePath
    body: Body
    value: Term
    default: bool
    plain: bool


@dataclass(frozen=True, slots=True)
class Residual:
    """What partial evaluation left: some query's body must hold; the bodies may refer to the rules. No
    query means never.
    """

    queries: tuple[Body, ...]
    rules: Mapping[RulePath, tuple[Rule, ...]]


def parse(text: bytes) -> Any:
    """Return the JSON value, with every number exact. Raises `Unreadable` for bad JSON and for numbers
    that have no exact form.
    """
    try:
        return json.loads(text, parse_int=_integer, parse_float=_fraction, parse_constant=_refuse_constant)
    except Unreadable:
        raise
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"not JSON: {error}") from error


def read_residual(result: object) -> Residual:
    """Return the residual in the `result` of a compile answer. Raises `Unreadable` when it has not
    exactly the known shape.
    """
    if not isinstance(result, Mapping) or not set(result) <= {"queries", "support"}:
        raise Unreadable("the residual is not an object of queries and support")
    try:
        queries = tuple(read_body(body) for body in result.get("queries", ()))
        grouped: dict[RulePath, tuple[Rule, ...]] = {}
        for module in result.get("support", ()):
            for rule in _module_rules(module):
                grouped[rule.path] = (*grouped.get(rule.path, ()), rule)
    except (KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise Unreadable(f"the residual is malformed: {error!r}") from error
    return Residual(queries, grouped)


def read_body(statements: Sequence[Mapping[str, Any]]) -> Body:
    """Return a body."""
    return tuple(
        Statement(
            _form(statement["terms"]),
            negated=bool(statement.get("negated")),
            modified=bool(statement.get("with")),
        )
        for statement in statements
    )


def read_term(term: Mapping[str, Any]) -> Term:
    """Return a term."""
    kind: str = term["type"]
    match kind:
        case "null":
            return Known(None)
        case "string" | "number" | "boolean":
            return Known(term["value"])
        case "var":
            return Variable(term["value"])
        case "array" | "set":
            return Collection(kind, tuple(read_term(element) for element in term["value"]))
        case "object":
            return Collection(kind, tuple(read_term(value) for _, value in term["value"]))
        case "ref":
            return _ref(term["value"])
        case _:
            return Opaque(kind)


def named(term: Term) -> str:
    """Return what the term is, in the words of a refusal."""
    match term:
        case Collection(kind):
            return f"a known {kind}"
        case Variable():
            return "a free variable"
        case Opaque(kind):
            return f"a computed value ({kind})"
        case Ref() | Known():
            return str(term)
        case _:
            assert_never(term)


def _form(terms: Any) -> Form:
    if isinstance(terms, list):
        return Call(
            ".".join(part["value"] for part in terms[0]["value"]),
            tuple(read_term(term) for term in terms[1:]),
        )
    match terms.get("type"):
        case "not":
            return Negation(read_body(terms["body"]))
        case "and" | "or":
            return Junction(terms["type"] == "and", read_body(terms["lhs"]), read_body(terms["rhs"]))
        case None:
            return Unknown("every" if "domain" in terms else "/".join(sorted(terms)))
        case _:
            return Bare(read_term(terms))


def _ref(parts: Sequence[Mapping[str, Any]]) -> Term:
    if parts[0]["type"] != "var":
        return Opaque(f"reference into a {parts[0]['type']}")
    return Ref(parts[0]["value"], tuple(_step(part) for part in parts[1:]))


def _step(part: Mapping[str, Any]) -> Step:
    match part["type"]:
        case "string":
            name: str = part["value"]
            return name
        case "var":
            return Variable(part["value"])
        case kind:
            return Opaque(kind)


def _module_rules(module: Mapping[str, Any]) -> list[Rule]:
    package = tuple(part["value"] for part in module["package"]["path"])
    return [_rule(package, rule) for rule in module["rules"]]


def _rule(package: RulePath, rule: Mapping[str, Any]) -> Rule:
    head = rule["head"]
    name = [part["value"] for part in head["ref"]] if head.get("ref") else [head["name"]]
    plain = (
        "else" not in rule
        and not head.get("args")
        and "key" not in head
        and all(isinstance(part, str) for part in name)
    )
    return Rule(
        path=(*package, *map(str, name)),
        body=read_body(rule["body"]),
        value=read_term(head["value"]) if "value" in head else Known(True),
        default=bool(rule.get("default")),
        plain=plain,
    )


def _integer(text: str) -> int:
    if len(text) > 20 or not -_LARGEST <= int(text) < _LARGEST:
        raise Unreadable(f"number {text[:40]} does not fit 64 bits")
    return int(text)


def _fraction(text: str) -> float:
    value = float(text)
    if len(text) > 40 or Decimal(text) != Decimal(repr(value)):
        raise Unreadable(f"number {text[:40]} has no exact form")
    return value


def _refuse_constant(text: str) -> float:
    raise Unreadable(f"{text} is not a number")
