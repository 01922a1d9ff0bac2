"""The filter fragment: checks that the rules that become filters compile to what a filter can say, and stay
small for callers with many groups.

Each rule is partially evaluated with its row unknown, and every expression of what remains must have one of
the few shapes below. This says whether a policy *is* in the fragment; what a residual means is the business
of the translator in `regate_adapters.opa`, which has its own proof.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import opa

from regate_orchestrator.authz.points import FILTERED

Node = dict[str, Any]

# actions beside that of the filter for which a body of the rule speaks of the row
_FURTHER: Final = {
    "store": ("store.add", "store.delete"),
    "file": ("file.delete",),
    "prompt": ("prompt.delete",),
}
# decision point, row, and an action for each body that speaks of the row
FILTERS: Final = tuple(
    (point.short, point.contract.row, action)
    for point in FILTERED
    for action in (str(point.contract.filtered), *_FURTHER.get(point.short, ()))
)

_COMPARISONS: Final = {"eq", "neq", "lt", "lte", "gt", "gte", "equal"}
_TEXT: Final = {"startswith", "endswith", "contains"}


def faults() -> Iterator[str]:
    """Yield, in words, each way in which a filter rule leaves the fragment."""
    for point, row, action in FILTERS:
        helpers = helpers_of(point)
        one, many = (residual(point, row, action, groups=groups, helpers=helpers) for groups in (1, 60))
        for expression in expressions(many):
            if (reason := _reason_against(expression, row)) is not None:
                yield f"regate.{point} for {action}: {reason}"
        if len(list(expressions(one))) != len(list(expressions(many))):
            yield (
                f"regate.{point} for {action}: the filter grows with the number of the caller's groups; "
                "write chunk-first membership"
            )
        if not any(_mentions_row(expression, row) for expression in expressions(many)):
            yield f"regate.{point} for {action}: the filter does not depend on the row at all"


def helpers_of(point: str) -> list[str]:
    """Return the boolean helper rules of a package, which a filter must not inline: inlining
    multiplies them out.
    """
    names: set[str] = set()
    for path in sorted((opa.POLICIES / point).glob("*.rego")):
        for rule in opa.read("parse", str(path), "--format", "json")["rules"]:
            head = rule["head"]
            plain = not {"args", "key"} & head.keys() and head.get("value", {}).get("value") is True
            if plain and head["name"] != "allow":
                names.add(f"data.regate.{point}.{head['name']}")
    return sorted(names)


def residual(point: str, row: str, action: str, *, groups: int, helpers: list[str]) -> Node:
    """Return what partial evaluation leaves of a rule for a caller with so many groups of each kind."""
    names = [f"g{number}" for number in range(groups)]
    held: dict[str, Any] = {"teams": names, "roles": names, "projects": names, "namespaces": names}
    principal = {"id": "ann", "tenant": "acme", "scopes": [], "clearance": 2, "attrs": {}, **held}
    document = {"v": 1, "now": 1000, "request_id": "r", "action": action, "principal": principal}
    return dict(
        opa.read(
            *(
                "eval",
                "--bundle",
                str(opa.POLICIES),
                "--partial",
                "--unknowns",
                f"input.{row}",
                "--stdin-input",
                "--format",
                "json",
            ),
            *(part for helper in helpers for part in ("--disable-inlining", helper)),
            f"data.regate.{point}.allow == true",
            given=json.dumps(document),
        )["partial"]
    )


def expressions(partial: Node) -> Iterator[Node]:
    """Yield every expression of a residual, those of its support rules included; a rule of a shape
    that no filter has, as an odd one.
    """
    for body in partial.get("queries") or []:
        yield from body
    for module in partial.get("modules") or []:
        for rule in module["rules"]:
            head = rule["head"]
            if (
                {"args", "key"} & head.keys()
                or "else" in rule
                or head["value"] != {"type": "boolean", "value": True}
                or rule.get("default")
            ):
                yield {"terms": {"type": f"support rule {head['name']} that is not simply true"}}
            yield from rule["body"]


def _reason_against(expression: Node, row: str) -> str | None:
    if expression.get("with"):
        return "`with`"
    terms = expression["terms"]
    if isinstance(terms, dict):
        if (
            terms["type"] == "boolean"
            or _is_rule(terms)
            or (terms["type"] == "ref" and _is_field(terms, row))
        ):
            return None
        return f"an expression of type {terms['type']}"
    if expression.get("negated"):
        return "negation of something other than a named rule"
    operator = ".".join(part["value"] for part in terms[0]["value"])
    left, right = (terms[1], terms[2]) if len(terms) == 3 else (None, None)
    if left is None or right is None:
        return f"the builtin {operator} with {len(terms) - 1} operands"
    if operator in _COMPARISONS:
        fields = [term for term in (left, right) if _is_field(term, row)]
        known = [term for term in (left, right) if _is_known(term)]
        return (
            None
            if len(fields) == 1 and len(known) == 1
            else f"{operator} of other than a field and a known value"
        )
    if operator == "internal.member_2":
        fits = (_is_field(left, row) or _is_element(left, row)) and _is_known(right)
        return None if fits else "membership other than of a field, or its element, in a known collection"
    if operator in _TEXT:
        return (
            None
            if _is_field(left, row) and _is_known(right)
            else f"{operator} of other than a field and a known value"
        )
    return f"the builtin {operator}"


def _is_known(term: Node) -> bool:
    if term["type"] in ("array", "set"):
        return all(_is_known(element) for element in term["value"])
    return term["type"] in ("string", "number", "boolean")


def _is_field(term: Node, row: str) -> bool:
    return (
        term["type"] == "ref"
        and _path(term)[:2] == ["input", row]
        and len(_path(term)) == 3
        and term["value"][2]["type"] == "string"
    )


def _is_element(term: Node, row: str) -> bool:
    return (
        term["type"] == "ref"
        and len(term["value"]) == 4
        and term["value"][3]["type"] == "var"
        and _path(term)[:2] == ["input", row]
    )


def _is_rule(term: Node) -> bool:
    return (
        term["type"] == "ref"
        and _path(term)[:2] == ["data", "partial"]
        and all(part["type"] == "string" for part in term["value"][1:])
    )


def _path(term: Node) -> list[Any]:
    return [part["value"] for part in term["value"]]


def _mentions_row(expression: Node, row: str) -> bool:
    terms = expression["terms"]
    return any(
        _is_field(term, row) or _is_element(term, row)
        for term in (terms if isinstance(terms, list) else [terms])
    )
